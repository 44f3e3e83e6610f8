// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.ConfigManager;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.EmptyHttpHeaders;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.util.AsciiString;
import io.netty.util.CharsetUtil;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;

/** The answers to requests for predictions, under the headers of MMS's (NettyUtils.java, sendHttpResponse). */
final class Responses {

    static final AsciiString CONTENT_TYPE = HttpHeaderNames.CONTENT_TYPE;

    static final AsciiString REQUEST_ID = AsciiString.cached("x-request-id");
    private static final AsciiString PRAGMA = AsciiString.cached("Pragma");
    private static final AsciiString CACHE_CONTROL = AsciiString.cached("Cache-Control");
    private static final AsciiString EXPIRES = AsciiString.cached("Expires");
    private static final AsciiString NO_CACHE = AsciiString.cached("no-cache");
    private static final AsciiString NOT_KEPT =
            AsciiString.cached("no-cache; no-store, must-revalidate, private");
    private static final AsciiString LONG_AGO = AsciiString.cached("Thu, 01 Jan 1970 00:00:00 UTC");
    private static final int FIRST_ERROR = 400;

    private static final Set<String> OURS =
            new HashSet<>(
                    Arrays.asList(
                            "connection",
                            "content-length",
                            "keep-alive",
                            "te",
                            "trailer",
                            "transfer-encoding",
                            "upgrade"));

    private static final String ALLOWED_ORIGIN = config().getCorsAllowedOrigin();
    private static final String ALLOWED_METHODS = config().getCorsAllowedMethods();
    private static final String ALLOWED_HEADERS = config().getCorsAllowedHeaders();

    private Responses() {}

    private static ConfigManager config() {
        return ConfigManager.getInstance();
    }

    /** Headers to add to. Names and values from workers are clean already: worker/responses.py, context.py. */
    static HttpHeaders headers(String requestId) {
        return new DefaultHttpHeaders(false).set(REQUEST_ID, requestId);
    }

    /**
     * Adds a header of a handler's, unless it is about the connection or about how the answer is
     * sent (RFC 9110, sections 7.6.1 and 8.6): that is said here alone. A client that is told twice
     * where an answer ends may take what follows for another one.
     */
    static void pass(HttpHeaders headers, String name, String value) {
        String lowerCase = name.toLowerCase(Locale.ROOT);
        if (!OURS.contains(lowerCase) && !lowerCase.startsWith("proxy-")) {
            headers.set(name, value);
        }
    }

    static void sendError(
            Channel channel, BadMessageException why, String requestId) {
        sendError(channel, why.status(), why.type(), why.getMessage(), requestId);
    }

    static void sendError(Channel channel, RequestException why, String requestId) {
        String body = ErrorBody.of(why.status, why.type, why.getMessage(), why.trace);
        sendError(channel, why.status, body, requestId);
    }

    static void sendError(
            Channel channel,
            HttpResponseStatus status,
            String type,
            String message,
            String requestId) {
        sendError(channel, status, ErrorBody.of(status, type, message), requestId);
    }

    private static void sendError(
            Channel channel, HttpResponseStatus status, String body, String requestId) {
        HttpHeaders headers =
                headers(requestId).set(CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
        send(channel, status, headers, Unpooled.copiedBuffer(body, CharsetUtil.UTF_8));
    }

    /** Sends an answer; the content's memory is given away. May be called on any thread. */
    static void send(
            Channel channel, HttpResponseStatus status, HttpHeaders headers, ByteBuf content) {
        addUnlessThere(headers, HttpHeaderNames.ACCESS_CONTROL_ALLOW_ORIGIN, ALLOWED_ORIGIN);
        addUnlessThere(headers, HttpHeaderNames.ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        addUnlessThere(headers, HttpHeaderNames.ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.set(PRAGMA, NO_CACHE).set(CACHE_CONTROL, NOT_KEPT).set(EXPIRES, LONG_AGO);
        headers.setInt(HttpHeaderNames.CONTENT_LENGTH, content.readableBytes());
        boolean last = status.code() >= FIRST_ERROR;
        headers.set(
                HttpHeaderNames.CONNECTION,
                last ? HttpHeaderValues.CLOSE : HttpHeaderValues.KEEP_ALIVE);
        FullHttpResponse response =
                new DefaultFullHttpResponse(
                        HttpVersion.HTTP_1_1, status, content, headers, EmptyHttpHeaders.INSTANCE);
        if (last) {
            channel.writeAndFlush(response).addListener(ChannelFutureListener.CLOSE);
        } else {
            channel.writeAndFlush(response);
        }
    }

    private static void addUnlessThere(HttpHeaders headers, AsciiString name, String value) {
        if (value != null && !value.isEmpty() && !headers.contains(name)) {
            headers.set(name, value);
        }
    }
}

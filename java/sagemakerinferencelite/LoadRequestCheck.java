// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.BadRequestException;
import com.amazonaws.ml.mms.http.messages.RegisterModelRequest;
import com.amazonaws.ml.mms.util.JsonUtils;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.CharsetUtil;
import io.netty.util.ReferenceCountUtil;
import java.util.regex.Pattern;

/**
 * Answers 400 to a POST /models that MMS would answer with 500, or would turn into a model that
 * nobody can invoke or delete (ManagementRequestHandler.java, parseRequest and
 * handleRegisterModel). Any other request passes through untouched.
 */
@Sharable
final class LoadRequestCheck extends ChannelInboundHandlerAdapter {

    static final LoadRequestCheck INSTANCE = new LoadRequestCheck();

    private static final Pattern BAD_IN_NAME = Pattern.compile("[/\\\\?#%\\p{Cntrl}]");
    private static final int MAX_NAME_LENGTH = 256;

    private LoadRequestCheck() {}

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        try {
            if (isLoad(request)) {
                ctx.channel().attr(ModelDeparture.LOADING).set(checkedName(request));
            }
        } catch (BadRequestException e) {
            // As MMS's own handler does: note the request for the access log, then answer.
            NettyUtils.requestReceived(ctx.channel(), request);
            NettyUtils.sendError(ctx, HttpResponseStatus.BAD_REQUEST, e);
            ReferenceCountUtil.release(request);
            return;
        }
        ctx.fireChannelRead(request);
    }

    private static boolean isLoad(FullHttpRequest request) {
        // The path is taken apart as MMS does it (HttpRequestHandler.java).
        String[] segments = new QueryStringDecoder(request.uri()).path().split("/");
        return HttpMethod.POST.equals(request.method())
                && segments.length == 2
                && segments[1].equals("models");
    }

    /**
     * Looks for the parameters where MMS does, in a JSON body, else in the query string, and returns
     * the model's name if there is one.
     */
    private static String checkedName(FullHttpRequest request) {
        if (HttpHeaderValues.APPLICATION_JSON.contentEqualsIgnoreCase(
                HttpUtil.getMimeType(request))) {
            JsonObject body = parse(request.content().toString(CharsetUtil.UTF_8));
            checkUrl(string(body, "url"));
            return checkName(string(body, "model_name"));
        } else {
            QueryStringDecoder query = new QueryStringDecoder(request.uri());
            checkUrl(NettyUtils.getParameter(query, "url", null));
            return checkName(NettyUtils.getParameter(query, "model_name", null));
        }
    }

    private static JsonObject parse(String text) {
        try {
            JsonElement body = JsonParser.parseString(text);
            if (!body.isJsonObject()) {
                throw new BadRequestException("The request body is not a JSON object.");
            }
            // MMS's own conversion: it finds the fields that have the wrong type.
            JsonUtils.GSON.fromJson(body, RegisterModelRequest.class);
            return body.getAsJsonObject();
        } catch (JsonParseException e) {
            // Where Gson wraps an exception, the inner one says what is wrong, and where.
            Throwable cause = e.getCause() == null ? e : e.getCause();
            String reason =
                    cause instanceof StackOverflowError
                            ? "it is nested too deeply"
                            : cause.getMessage();
            throw new BadRequestException(
                    "The request body is not a valid load request: " + reason);
        }
    }

    private static String string(JsonObject body, String field) {
        JsonElement value = body.get(field);
        if (value == null || value.isJsonNull()) {
            return null;
        }
        if (!value.isJsonPrimitive() || !value.getAsJsonPrimitive().isString()) {
            throw new BadRequestException("Parameter " + field + " must be a string.");
        }
        return value.getAsString();
    }

    private static void checkUrl(String url) {
        if (url == null || url.isEmpty()) {
            throw new BadRequestException("Parameter url is required.");
        }
    }

    /** A name is one segment of a path in every other request; without one, MMS makes it up. */
    private static String checkName(String name) {
        if (name == null) {
            return null;
        }
        if (name.isEmpty() || name.length() > MAX_NAME_LENGTH || BAD_IN_NAME.matcher(name).find()) {
            throw new BadRequestException(
                    "Parameter model_name must have 1 to "
                            + MAX_NAME_LENGTH
                            + " characters and none of / \\ ? # % or control characters.");
        }
        return name;
    }
}

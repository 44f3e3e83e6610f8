// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.QueryStringDecoder;

/** What a request's head must be for the request to be taken in. */
final class HeadCheck {

    private HeadCheck() {}

    /** Makes a head what those behind expect, or says why it cannot be. */
    static void check(HttpRequest head, int maxBody) throws BadMessageException {
        if (head.decoderResult().isFailure()) {
            throw BadMessageException.of(head.decoderResult());
        }
        // MMS knows no HEAD, and for an endpoint plugin answers it with 500. The codec remembers
        // what was asked and leaves the body out (HttpCodec).
        if (HttpMethod.HEAD.equals(head.method())) {
            head.setMethod(HttpMethod.GET);
        }
        checkTarget(head);
        checkExpectation(head);
        checkLength(HttpUtil.getContentLength(head, 0L), maxBody);
    }

    /** Everybody behind takes the target apart, and each would fail in its own way. */
    private static void checkTarget(HttpRequest head) throws BadMessageException {
        String target = head.uri();
        if (!target.startsWith("/")) {
            head.setUri(pathOf(target));
        }
        if (target.indexOf('%') >= 0) {
            try {
                QueryStringDecoder decoder = new QueryStringDecoder(target);
                decoder.path();
                decoder.parameters();
            } catch (IllegalArgumentException e) {
                throw new BadMessageException("The address cannot be read: " + e.getMessage());
            }
        }
    }

    /** The path of a target that is a whole address, or stands for the server (RFC 9112, section 3.2). */
    private static String pathOf(String target) throws BadMessageException {
        if (target.equals("*")) {
            return "/";
        }
        int scheme = target.indexOf("://");
        if (scheme < 0) {
            throw new BadMessageException(
                    "The address is \"" + target + "\"; expected a path that begins with a slash.");
        }
        int path = target.indexOf('/', scheme + 3);
        return path < 0 ? "/" : target.substring(path);
    }

    private static void checkExpectation(HttpRequest head) throws BadMessageException {
        String expectation = head.headers().get(HttpHeaderNames.EXPECT);
        if (expectation != null
                && head.protocolVersion() != HttpVersion.HTTP_1_0
                && !HttpHeaderValues.CONTINUE.contentEqualsIgnoreCase(expectation)) {
            throw new BadMessageException(
                    HttpResponseStatus.EXPECTATION_FAILED,
                    "Expect is \"" + expectation + "\"; expected 100-continue.");
        }
    }

    private static void checkLength(long length, int maxBody) throws BadMessageException {
        if (length > maxBody) {
            throw tooLarge(String.valueOf(length), maxBody);
        }
        if (!Room.isEverThereForBody(length)) {
            throw noRoom();
        }
    }

    static BadMessageException tooLarge(String bytes, int maxBody) {
        return new BadMessageException(
                HttpResponseStatus.REQUEST_ENTITY_TOO_LARGE,
                String.format(
                        "The request body has %s bytes; the limit is %d bytes"
                                + " (SAGEMAKER_MAX_PAYLOAD_IN_MB).",
                        bytes, maxBody));
    }

    static BadMessageException noRoom() {
        return new BadMessageException(
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                "The server has no room for this body beside those of the requests it has taken"
                        + " (-XX:MaxDirectMemorySize in SAGEMAKER_MODEL_SERVER_VMARGS).");
    }
}

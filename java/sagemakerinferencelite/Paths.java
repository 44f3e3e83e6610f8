// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.QueryStringDecoder;

/** The path of a request, taken apart as MMS does it (HttpRequestHandler.java). */
final class Paths {

    private static final String[] NONE = {};

    private Paths() {}

    /** What stands between slashes, the first of them empty; nothing where it cannot be decoded. */
    static String[] segments(HttpRequest request) {
        if (!request.decoderResult().isSuccess()) {
            return NONE;
        }
        try {
            return new QueryStringDecoder(request.uri()).path().split("/");
        } catch (IllegalArgumentException e) {
            return NONE; // an escape without its digits
        }
    }
}

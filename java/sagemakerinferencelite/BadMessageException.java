// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.handler.codec.DecoderResult;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.TooLongHttpHeaderException;
import io.netty.handler.codec.http.TooLongHttpLineException;

/** A request that cannot be told apart from what follows it, or that no answer fits: with the status of its refusal. */
final class BadMessageException extends Exception {

    private final HttpResponseStatus status;

    BadMessageException(HttpResponseStatus status, String message) {
        // A client's mistake has a reason and no place in this program: a trace would be paid for by who is attacked.
        super(message, null, false, false);
        this.status = status;
    }

    BadMessageException(String message) {
        this(HttpResponseStatus.BAD_REQUEST, message);
    }

    HttpResponseStatus status() {
        return status;
    }

    /** What MMS calls it, where it has a name for it. */
    String type() {
        if (status.equals(HttpResponseStatus.SERVICE_UNAVAILABLE)) {
            return "ServiceUnavailableException";
        }
        boolean isTooLarge = status.equals(HttpResponseStatus.REQUEST_ENTITY_TOO_LARGE);
        return isTooLarge ? "RequestTooLargeException" : "BadRequestException";
    }

    /** What is wrong with a message that could not be decoded. */
    static BadMessageException of(DecoderResult failed) {
        Throwable cause = failed.cause();
        if (cause instanceof BadMessageException) {
            return (BadMessageException) cause;
        }
        String message = "The request cannot be read: " + cause.getMessage();
        if (cause instanceof TooLongHttpLineException) {
            return new BadMessageException(HttpResponseStatus.REQUEST_URI_TOO_LONG, message);
        }
        if (cause instanceof TooLongHttpHeaderException) {
            return new BadMessageException(
                    HttpResponseStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message);
        }
        return new BadMessageException(message);
    }
}

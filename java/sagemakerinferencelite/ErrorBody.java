// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.ErrorResponse;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.netty.handler.codec.http.HttpResponseStatus;

/**
 * The JSON of an error, as MMS writes its own (NettyUtils.java, sendError), but with quotation marks
 * and = as they are: whoever reads it sees it in a terminal.
 */
final class ErrorBody {

    private static final Gson GSON =
            new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create();

    private ErrorBody() {}

    static String of(HttpResponseStatus status, String type, String message) {
        return json(new ErrorResponse(status.code(), type, message));
    }

    /** With a traceback, unless it is empty. */
    static String of(HttpResponseStatus status, String type, String message, String trace) {
        return trace.isEmpty()
                ? of(status, type, message)
                : json(new Traced(status.code(), type, message, trace));
    }

    private static String json(ErrorResponse error) {
        return GSON.toJson(error) + '\n';
    }

    /** Its field becomes one of the JSON's. */
    private static final class Traced extends ErrorResponse {

        private final String traceback;

        Traced(int code, String type, String message, String traceback) {
            super(code, type, message);
            this.traceback = traceback;
        }
    }
}

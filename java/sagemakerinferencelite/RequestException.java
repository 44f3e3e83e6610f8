// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.ModelException;
import com.amazonaws.ml.mms.archive.ModelNotFoundException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.util.concurrent.CompletionException;

/** Why a request is not done, as its caller is told. It is made without a stack trace: it is no fault of ours. */
final class RequestException extends RuntimeException {

    private static final long serialVersionUID = 1L;

    final HttpResponseStatus status;
    /** The name of the exception with which MMS says the same. */
    final String type;
    /** Under which the log has the cause; null where it has none. */
    final String errorId;
    /** The worker's traceback; empty unless callers may see it. */
    final String trace;

    RequestException(HttpResponseStatus status, String type, String message) {
        this(status, type, message, null, "");
    }

    private RequestException(
            HttpResponseStatus status, String type, String message, String errorId, String trace) {
        super(message, null, false, false);
        this.status = status;
        this.type = type;
        this.errorId = errorId;
        this.trace = trace;
    }

    static RequestException badRequest(String message) {
        return new RequestException(HttpResponseStatus.BAD_REQUEST, "BadRequestException", message);
    }

    static RequestException conflict(String message) {
        return new RequestException(HttpResponseStatus.CONFLICT, "ConflictStatusException", message);
    }

    static RequestException notFound(String message) {
        return new RequestException(
                HttpResponseStatus.NOT_FOUND, "ModelNotFoundException", message);
    }

    /** With one model, nobody outside may load another: whoever can, can run code here. */
    static RequestException oneModel() {
        return notFound(
                "This server serves one model, which POST /invocations asks."
                        + " SAGEMAKER_MULTI_MODEL=true makes it a server of several, which POST /models"
                        + " loads.");
    }

    static RequestException unavailable(String message) {
        return new RequestException(
                HttpResponseStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableException", message);
    }

    static RequestException failure(HttpResponseStatus status, String message) {
        return new RequestException(status, "InternalServerException", message);
    }

    /** Of which the log has more, under that id. */
    static RequestException logged(
            HttpResponseStatus status, String message, String errorId, String trace) {
        return new RequestException(status, "InternalServerException", message, errorId, trace);
    }

    /** The same under another message, with an id. */
    RequestException as(String message, String id) {
        return new RequestException(status, type, message, id, trace);
    }

    /** What a step of a request ended with; null where nobody has foreseen it. */
    static RequestException of(Throwable thrown) {
        Throwable cause = thrown instanceof CompletionException ? thrown.getCause() : thrown;
        if (cause instanceof RequestException) {
            return (RequestException) cause;
        }
        if (cause instanceof ModelException) {
            boolean isMissing = cause instanceof ModelNotFoundException;
            return new RequestException(
                    isMissing ? HttpResponseStatus.NOT_FOUND : HttpResponseStatus.BAD_REQUEST,
                    cause.getClass().getSimpleName(),
                    cause.getMessage());
        }
        if (cause instanceof InvalidPathException) {
            return badRequest(
                    "The url can be no path here: "
                            + ((InvalidPathException) cause).getReason()
                            + " (LC_ALL=C.UTF-8 lets names be any text).");
        }
        if (cause instanceof IOException) {
            return failure(
                    HttpResponseStatus.INTERNAL_SERVER_ERROR,
                    "The model cannot be read: " + cause.getMessage());
        }
        return null;
    }
}

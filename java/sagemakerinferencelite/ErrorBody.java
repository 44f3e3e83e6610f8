// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.ErrorResponse;
import com.amazonaws.ml.mms.util.JsonUtils;
import io.netty.handler.codec.http.HttpResponseStatus;

/** The JSON of an error, written as MMS writes its own (NettyUtils.java, sendError). */
final class ErrorBody {

    private ErrorBody() {}

    static String of(HttpResponseStatus status, String type, String message) {
        ErrorResponse error = new ErrorResponse(status.code(), type, message);
        return JsonUtils.GSON_PRETTY.toJson(error) + '\n';
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.ModelServerEndpoint;
import software.amazon.ai.mms.servingsdk.Worker;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/**
 * GET /ping as SageMaker wants it: 200 and an empty body when requests can be served.
 *
 * <p>With many models that is from the start on. With one model it is while some worker has it
 * loaded and the parent process has put a file {@code ready} into the state directory; until then
 * it is 503, where MMS says 200 (ModelManager.java, workerStatus). {@link RequestGuard} answers
 * while the server is stopping.
 */
@Endpoint(urlPattern = "ping", endpointType = EndpointTypes.INFERENCE)
public final class Ping extends ModelServerEndpoint {

    private final boolean multiModel = Boolean.parseBoolean(Setting.required("multi_model"));
    private final File ready = new File(Setting.required("state_dir"), "ready");

    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        if (multiModel || ready.exists() && isLoaded(context)) {
            return;
        }
        HttpResponseStatus status = HttpResponseStatus.SERVICE_UNAVAILABLE;
        response.setStatus(status.code());
        response.setContentType("application/json");
        String body =
                ErrorBody.of(
                        status, "ServiceUnavailableException", "The model is not loaded yet.");
        response.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
    }

    private static boolean isLoaded(Context context) {
        return context.getModels().values().stream()
                .flatMap(model -> model.getModelWorkers().stream())
                .anyMatch(Worker::isRunning);
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.JsonUtils;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import software.amazon.ai.mms.servingsdk.Context;
import software.amazon.ai.mms.servingsdk.ModelServerEndpoint;
import software.amazon.ai.mms.servingsdk.annotations.Endpoint;
import software.amazon.ai.mms.servingsdk.annotations.helpers.EndpointTypes;
import software.amazon.ai.mms.servingsdk.http.Request;
import software.amazon.ai.mms.servingsdk.http.Response;

/**
 * GET /execution-parameters: what a batch transform job asks first, to tune itself.
 *
 * <p>The defaults are those of the CreateTransformJob API.
 */
@Endpoint(urlPattern = "execution-parameters", endpointType = EndpointTypes.INFERENCE)
public final class ExecutionParameters extends ModelServerEndpoint {

    private final byte[] body;

    public ExecutionParameters() {
        Map<String, Object> parameters = new LinkedHashMap<>();
        parameters.put("MaxConcurrentTransforms", Setting.number("max_concurrent_transforms", "1"));
        parameters.put("BatchStrategy", Setting.optional("batch_strategy", "MULTI_RECORD"));
        parameters.put("MaxPayloadInMB", Setting.number("max_payload_in_mb", "6"));
        body = JsonUtils.GSON.toJson(parameters).getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        response.setContentType("application/json");
        response.getOutputStream().write(body);
    }
}

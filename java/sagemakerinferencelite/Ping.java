// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.function.BooleanSupplier;

/**
 * GET /ping as SageMaker wants it: 200 and an empty body when requests can be served.
 *
 * <p>With many models that is from the start on. With one model it is while some worker has it
 * loaded; until then it is 503, where MMS says 200 (ModelManager.java, workerStatus). {@link
 * AdmissionHandler} answers while the server is stopping.
 *
 * <p>It is answered at once by the event loop of its connection: it waits for no other thread, and
 * so for no disk, load or other request.
 */
@Sharable
final class Ping extends ChannelInboundHandlerAdapter {

    private static final String PING = "/ping";

    private final BooleanSupplier ready;

    Ping(BooleanSupplier ready) {
        this.ready = ready;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        if (!isPing(request)) {
            ctx.fireChannelRead(request);
            return;
        }
        request.release();
        answer(ctx, request.method());
    }

    private static boolean isPing(FullHttpRequest request) {
        if (request.uri().equals(PING) && request.decoderResult().isSuccess()) {
            return true;
        }
        // As for MMS, what follows makes no difference (InferenceRequestHandler.java).
        String[] segments = Paths.segments(request);
        return segments.length > 1 && segments[1].equals("ping");
    }

    private void answer(ChannelHandlerContext ctx, HttpMethod method) {
        String id = Invocation.newId();
        // HEAD has become GET: see AdmissionHandler.
        if (!HttpMethod.GET.equals(method)) {
            Responses.sendError(
                    ctx.channel(),
                    HttpResponseStatus.METHOD_NOT_ALLOWED,
                    "MethodNotAllowedException",
                    "/ping is asked with GET or HEAD, not with " + method + ".",
                    id);
        } else if (ready.getAsBoolean()) {
            Responses.send(
                    ctx.channel(),
                    HttpResponseStatus.OK,
                    Responses.headers(id),
                    Unpooled.EMPTY_BUFFER);
        } else {
            Responses.sendError(
                    ctx.channel(),
                    HttpResponseStatus.SERVICE_UNAVAILABLE,
                    "ServiceUnavailableException",
                    "The model is not loaded yet.",
                    id);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder;
import io.netty.util.ReferenceCountUtil;
import java.util.ArrayDeque;
import java.util.Set;

/**
 * Takes requests for predictions to their model's workers, in place of MMS's handler
 * (InferenceRequestHandler.java), under the same four paths. All others pass through.
 *
 * <p>It stands behind the aggregator, so it sees whole requests. It lets them through one at a time:
 * a client that sends the next one without waiting for an answer gets the answers in order.
 */
final class Invocations extends ChannelDuplexHandler {

    private static final String INVOCATIONS = "/invocations";

    private final Workers workers;

    private final ArrayDeque<FullHttpRequest> waiting = new ArrayDeque<>();
    /** A request has been passed on, and its answer has not come by. */
    private boolean busy;
    /** What has been passed on to workers, and to whose; null: it was something else. */
    private Invocation invocation;

    private ModelWorkers asked;

    Invocations(Workers workers) {
        this.workers = workers;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        if (busy) {
            waiting.add(request);
            ctx.channel().config().setAutoRead(false);
        } else {
            busy = true;
            handle(ctx, request);
        }
    }

    /** Goes no further: what is behind runs on other threads, and would wake one up for each read. */
    @Override
    public void channelReadComplete(ChannelHandlerContext ctx) {}

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        boolean isAnswer =
                msg instanceof HttpResponse
                        && ((HttpResponse) msg).status().codeClass()
                                != HttpStatusClass.INFORMATIONAL;
        ctx.write(msg, promise);
        if (isAnswer && busy) {
            busy = false;
            invocation = null;
            if (!waiting.isEmpty()) {
                // Not from within: a row of answers that are there at once would nest.
                ctx.executor().execute(() -> handleNext(ctx));
            }
        }
    }

    private void handleNext(ChannelHandlerContext ctx) {
        if (!busy && !waiting.isEmpty() && ctx.channel().isActive()) {
            busy = true;
            handle(ctx, waiting.poll());
            if (waiting.isEmpty()) {
                ctx.channel().config().setAutoRead(true);
            }
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        while (!waiting.isEmpty()) {
            waiting.poll().release();
        }
        if (invocation != null) {
            asked.abandon(invocation);
        }
        ctx.fireChannelInactive();
    }

    private void handle(ChannelHandlerContext ctx, FullHttpRequest request) {
        String uri = request.uri();
        if (!request.decoderResult().isSuccess() || HttpMethod.OPTIONS.equals(request.method())) {
            ctx.fireChannelRead(request);
        } else if (uri.equals(INVOCATIONS)) {
            submit(ctx, request, singleModel(), null);
        } else {
            // The path is taken apart as MMS does it (HttpRequestHandler.java).
            QueryStringDecoder query = new QueryStringDecoder(uri);
            String[] segments = query.path().split("/");
            if (!isInvocation(segments)) {
                ctx.fireChannelRead(request);
            } else if (segments[1].equals("models")) {
                submit(ctx, request, segments[2], query);
            } else if (segments[1].equals("invocations")) {
                String named = NettyUtils.getParameter(query, "model_name", "");
                submit(ctx, request, named.isEmpty() ? singleModel() : named, query);
            } else {
                // MMS shows handlers no query parameters on these two.
                submit(ctx, request, segments[segments[1].equals("predictions") ? 2 : 1], null);
            }
        }
    }

    private static boolean isInvocation(String[] segments) {
        switch (segments.length) {
            case 2:
                return segments[1].equals("invocations");
            case 3:
                return segments[1].equals("predictions")
                        || segments[2].equals("predict") && !segments[1].equals("models");
            case 4:
                return segments[1].equals("models") && segments[3].equals("invoke")
                        || segments[1].equals("predictions");
            default:
                return false;
        }
    }

    /** The model that is asked where none is named; null unless the server was started with one. */
    private static String singleModel() {
        Set<String> names = ModelManager.getInstance().getStartupModels();
        return names.size() == 1 ? names.iterator().next() : null;
    }

    private void submit(
            ChannelHandlerContext ctx,
            FullHttpRequest request,
            String model,
            QueryStringDecoder query) {
        try {
            if (model == null) {
                refuse(
                        ctx,
                        request,
                        HttpResponseStatus.BAD_REQUEST,
                        "BadRequestException",
                        "Parameter model_name is required.");
                return;
            }
            invocation = new Invocation(ctx.channel(), request, query);
        } catch (HttpPostRequestDecoder.ErrorDataDecoderException | IllegalArgumentException e) {
            refuse(
                    ctx,
                    request,
                    HttpResponseStatus.BAD_REQUEST,
                    "BadRequestException",
                    "The form cannot be read: " + e.getMessage());
            return;
        } finally {
            ReferenceCountUtil.release(request);
        }
        pass(workers.of(model), model);
    }

    private void pass(ModelWorkers found, String model) {
        asked = found;
        Invocation passed = invocation;
        if (asked == null && !ModelManager.getInstance().getModels().containsKey(model)) {
            passed.fail(
                    HttpResponseStatus.NOT_FOUND,
                    "ModelNotFoundException",
                    "Model not found: " + model);
            return;
        }
        switch (asked == null ? ModelWorkers.Outcome.NO_WORKER : asked.submit(passed)) {
            case NO_WORKER:
                passed.fail(ModelWorkers.NO_WORKER);
                break;
            case FULL:
                passed.fail(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "ServiceUnavailableException",
                        "No worker is available to serve request for model: "
                                + model
                                + ". Consider increasing job queue size.");
                break;
            case LEAVING:
                passed.fail(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "ServiceUnavailableException",
                        "The model is being unloaded: " + model);
                break;
            default:
        }
    }

    private static void refuse(
            ChannelHandlerContext ctx,
            FullHttpRequest request,
            HttpResponseStatus status,
            String type,
            String message) {
        AccessLog log = new AccessLog(ctx.channel(), request);
        Responses.sendError(ctx.channel(), status, type, message, Invocation.newId(), log);
    }
}

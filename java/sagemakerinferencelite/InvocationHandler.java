// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.DecoderException;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.ReferenceCountUtil;
import java.io.IOException;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Takes requests for predictions to their model's workers, in place of MMS's handler
 * (InferenceRequestHandler.java), under the same four paths. All others pass through.
 *
 * <p>It sees whole requests, one at a time (see {@link HttpCodec}).
 */
final class InvocationHandler extends ChannelDuplexHandler {

    private static final Logger LOG = LoggerFactory.getLogger(InvocationHandler.class);

    private static final String INVOCATIONS = "/invocations";

    private final WorkerPools workers;

    /** What has been passed on to workers, and to whose; null: nothing, or it was something else. */
    private Invocation invocation;

    private WorkerPool asked;

    InvocationHandler(WorkerPools workers) {
        this.workers = workers;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        handle(ctx, (FullHttpRequest) msg);
    }

    /** Goes no further: what is behind runs on other threads, and would wake one up for each read. */
    @Override
    public void channelReadComplete(ChannelHandlerContext ctx) {}

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (msg instanceof HttpResponse) {
            invocation = null;
        }
        ctx.write(msg, promise);
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        if (invocation != null) {
            asked.abandon(invocation);
        }
        ctx.fireChannelInactive();
    }

    /** Ends the connection: that a client has gone is no fault, and anything else costs one client. */
    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
        if (cause instanceof IOException) {
            LOG.info("client {} has gone: {}", ctx.channel().remoteAddress(), cause.getMessage());
        } else if (cause instanceof DecoderException || cause instanceof OutOfMemoryError) {
            LOG.warn("client {} is given up: {}", ctx.channel().remoteAddress(), cause.toString());
        } else {
            LOG.error("client {} is given up", ctx.channel().remoteAddress(), cause);
        }
        ctx.close();
    }

    private void handle(ChannelHandlerContext ctx, FullHttpRequest request) {
        String uri = request.uri();
        if (HttpMethod.OPTIONS.equals(request.method())) {
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
                throw new BadMessageException("Parameter model_name is required.");
            }
            invocation = newInvocation(ctx.channel(), request, query);
        } catch (BadMessageException e) {
            Responses.sendError(ctx.channel(), e, Invocation.newId());
            return;
        } finally {
            ReferenceCountUtil.release(request);
        }
        pass(workers.of(model), model);
    }

    private static Invocation newInvocation(
            Channel channel, FullHttpRequest request, QueryStringDecoder query)
            throws BadMessageException {
        if (!Room.isFull()) {
            try {
                return new Invocation(channel, request, query);
            } catch (OutOfMemoryError e) {
                // Of the memory outside the heap: it is this request that finds none.
            }
        }
        throw new BadMessageException(
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                "The server has no room for a request beside the answers that its clients do not"
                        + " take (-XX:MaxDirectMemorySize in SAGEMAKER_MODEL_SERVER_VMARGS).");
    }

    private void pass(WorkerPool found, String model) {
        asked = found;
        Invocation passed = invocation;
        if (asked == null && !ModelManager.getInstance().getModels().containsKey(model)) {
            passed.fail(workers.unknown(model));
            return;
        }
        switch (asked == null ? WorkerPool.Outcome.NO_WORKER : asked.submit(passed)) {
            case NO_WORKER:
                passed.fail(WorkerPool.NO_WORKER);
                break;
            case FULL:
                passed.fail(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "ServiceUnavailableException",
                        "No worker is available to serve request for model: "
                                + model
                                + ". Consider increasing job queue size.");
                break;
            case DRAINING:
                passed.fail(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "ServiceUnavailableException",
                        "The model is being unloaded: " + model);
                break;
            default:
        }
    }
}

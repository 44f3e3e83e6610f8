// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.AttributeKey;
import io.netty.util.ReferenceCountUtil;
import java.util.concurrent.TimeUnit;

/**
 * Lets a model answer what it has been asked before it is unloaded, and says that a load has failed
 * once the model is gone.
 *
 * <p>MMS unloads at once (ModelManager.java, unregisterModel). So a DELETE is held back here until
 * the model has nothing left to answer, and further requests to it are refused meanwhile. Who still
 * waits when the limit is reached is answered with 503 (see {@link ModelWorkers#close}).
 *
 * <p>It stands behind the aggregator, so it sees whole requests, one at a time for each connection.
 */
final class ModelDeparture extends ChannelDuplexHandler {

    /** The model that the POST /models under way is to load, where the request says so. */
    static final AttributeKey<String> LOADING = AttributeKey.valueOf("loading");

    private static final long POLL_MS = 5;

    /** Unregistering takes MMS milliseconds, and an answer is worth more than its being exact. */
    private static final long GONE_LIMIT_NS = TimeUnit.SECONDS.toNanos(2);

    private static final long GONE_POLL_MS = 2;

    private final Workers workers;
    private final long limitNs;

    /** The model that the request under way unloads. */
    private ModelWorkers unloaded;

    ModelDeparture(Workers workers, long limitSeconds) {
        this.workers = workers;
        limitNs = TimeUnit.SECONDS.toNanos(limitSeconds);
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        ctx.channel().attr(LOADING).set(null);
        // The path is taken apart as MMS does it (HttpRequestHandler.java).
        String[] segments = new QueryStringDecoder(request.uri()).path().split("/");
        boolean isUnload =
                segments.length == 3
                        && segments[1].equals("models")
                        && HttpMethod.DELETE.equals(request.method());
        ModelWorkers leaving = isUnload ? workers.of(segments[2]) : null;
        if (leaving == null) {
            ctx.fireChannelRead(request);
        } else {
            unloaded = leaving;
            leaving.leave();
            passOnWhenIdle(ctx, leaving, segments[2], request, System.nanoTime());
        }
    }

    /** Passes a DELETE on, though its client may have gone: the model is to be unloaded all the same. */
    private void passOnWhenIdle(
            ChannelHandlerContext ctx,
            ModelWorkers leaving,
            String model,
            FullHttpRequest request,
            long begunNs) {
        if (leaving.unanswered() == 0 || System.nanoTime() - begunNs > limitNs) {
            if (ctx.channel().isActive()) {
                ctx.fireChannelRead(request);
            } else {
                ReferenceCountUtil.release(request);
                ModelManager manager = ModelManager.getInstance();
                manager.submitTask(
                        () -> {
                            // Another client's DELETE, and a load after it, may have been faster.
                            if (workers.of(model) == leaving) {
                                manager.unregisterModel(model);
                            }
                        });
            }
        } else {
            ctx.executor()
                    .schedule(
                            () -> passOnWhenIdle(ctx, leaving, model, request, begunNs),
                            POLL_MS,
                            TimeUnit.MILLISECONDS);
        }
    }

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (msg instanceof HttpResponse) {
            if (unloaded != null) {
                unloaded.stay(); // no matter where it is gone; it is not where MMS has refused
                unloaded = null;
            } else if (isEarly(ctx, (HttpResponse) msg)) {
                writeOnceGone(ctx, msg, promise, System.nanoTime());
                return;
            }
        }
        ctx.write(msg, promise);
    }

    /**
     * Whether this says that a load has failed, while the model is still there: MMS answers before
     * it unregisters (ManagementRequestHandler.java, updateModelWorkers), and whoever then looks,
     * or loads again, would find it.
     */
    private static boolean isEarly(ChannelHandlerContext ctx, HttpResponse response) {
        String loading = ctx.channel().attr(LOADING).get();
        return response.status().code() >= 500
                && loading != null
                && ModelManager.getInstance().getModels().containsKey(loading);
    }

    private static void writeOnceGone(
            ChannelHandlerContext ctx, Object msg, ChannelPromise promise, long begunNs) {
        boolean late = System.nanoTime() - begunNs > GONE_LIMIT_NS;
        if (late || !isEarly(ctx, (HttpResponse) msg)) {
            ctx.writeAndFlush(msg, promise);
        } else {
            ctx.executor()
                    .schedule(
                            () -> writeOnceGone(ctx, msg, promise, begunNs),
                            GONE_POLL_MS,
                            TimeUnit.MILLISECONDS);
        }
    }
}

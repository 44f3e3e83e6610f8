// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.ServiceUnavailableException;
import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.AttributeKey;
import io.netty.util.ReferenceCountUtil;
import java.util.concurrent.TimeUnit;

/**
 * Lets a model answer what it has been asked before it is unloaded.
 *
 * <p>MMS unloads at once (WorkerThread.java, shutdown; BatchAggregator.java, sendError). It puts the
 * request that a worker is busy with back into a queue that nobody reads any more, so that its
 * client and those behind it wait for ever; where the queue is full, or the worker's own end comes in
 * between, it throws in the middle, and the model's process stays. So a DELETE is held back here
 * until the model has nothing left to answer, and further requests to it are refused meanwhile.
 *
 * <p>Who still waits when the model is gone all the same, because the limit was reached or because
 * its load has failed, is answered with 503. That a load has failed is said once the model is gone.
 *
 * <p>It stands behind the aggregator, so it sees whole requests, one at a time for each connection.
 */
final class ModelDeparture extends ChannelDuplexHandler {

    /** The model that the POST /models under way is to load, where the request says so. */
    static final AttributeKey<String> LOADING = AttributeKey.valueOf("loading");

    private static final long POLL_MS = 5;

    /** MMS answers some of those that wait itself, and with what it knows. */
    private static final long MMS_ANSWERS_MS = 500;

    /** Unregistering takes MMS milliseconds, and an answer is worth more than its being exact. */
    private static final long GONE_LIMIT_NS = TimeUnit.SECONDS.toNanos(2);

    private static final long GONE_POLL_MS = 2;

    private final Traffic traffic;
    private final long limitNs;
    private ChannelHandlerContext context;

    /** Counts requests, to tell the one that waited when its model went from a later one. */
    private long requests;
    /** The model that the request under way is for; null between requests, and for others. */
    private String invoked;
    /** The model that the request under way unloads. */
    private String unloaded;

    ModelDeparture(Traffic traffic, long limitSeconds) {
        this.traffic = traffic;
        limitNs = TimeUnit.SECONDS.toNanos(limitSeconds);
    }

    @Override
    public void handlerAdded(ChannelHandlerContext ctx) {
        context = ctx;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        requests++;
        answered(); // nothing, unless a client did not wait for its last answer
        ctx.channel().attr(LOADING).set(null);
        // The path is taken apart as MMS does it (HttpRequestHandler.java).
        QueryStringDecoder decoder = new QueryStringDecoder(request.uri());
        String[] segments = decoder.path().split("/");
        String model = invokedModel(decoder, segments);
        if (model != null) {
            invoke(model, request);
        } else if (segments.length == 3
                && segments[1].equals("models")
                && HttpMethod.DELETE.equals(request.method())) {
            unloaded = segments[2];
            traffic.modelLeaves(unloaded);
            passOnWhenIdle(segments[2], request, System.nanoTime());
        } else {
            ctx.fireChannelRead(request);
        }
    }

    /** The model that a request is for, in any of MMS's four ways (InferenceRequestHandler.java). */
    private static String invokedModel(QueryStringDecoder decoder, String[] segments) {
        if (segments.length < 2) {
            return null;
        }
        if (segments[1].equals("invocations")) {
            return NettyUtils.getParameter(decoder, "model_name", null);
        }
        if (segments[1].equals("predictions")) {
            return segments.length > 2 ? segments[2] : null;
        }
        if (segments[1].equals("models")) {
            return segments.length == 4 ? segments[2] : null;
        }
        return segments.length == 3 && segments[2].equals("predict") ? segments[1] : null;
    }

    private void invoke(String model, FullHttpRequest request) {
        if (traffic.ask(model)) {
            invoked = model;
            context.fireChannelRead(request);
        } else {
            NettyUtils.requestReceived(context.channel(), request);
            ReferenceCountUtil.release(request);
            refuse("The model is being unloaded: " + model);
        }
    }

    /** Passes a DELETE on, though its client may have gone: the model is to be unloaded all the same. */
    private void passOnWhenIdle(String model, FullHttpRequest request, long begunNs) {
        if (traffic.asked(model) == 0 || System.nanoTime() - begunNs > limitNs) {
            if (context.channel().isActive()) {
                context.fireChannelRead(request);
            } else {
                ReferenceCountUtil.release(request);
                ModelManager manager = ModelManager.getInstance();
                manager.submitTask(
                        () -> {
                            manager.unregisterModel(model);
                            traffic.modelLeft(model);
                        });
            }
        } else {
            context.executor()
                    .schedule(
                            () -> passOnWhenIdle(model, request, begunNs),
                            POLL_MS,
                            TimeUnit.MILLISECONDS);
        }
    }

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (msg instanceof HttpResponse && isEarly(ctx, (HttpResponse) msg)) {
            writeOnceGone(ctx, msg, promise, System.nanoTime());
        } else {
            writeNow(ctx, msg, promise);
        }
    }

    /**
     * Whether this says that a load has failed, while the model is still there: MMS answers before
     * it unregisters (ManagementRequestHandler.java, updateModelWorkers), and whoever then looks,
     * or loads again, would find it.
     */
    private boolean isEarly(ChannelHandlerContext ctx, HttpResponse response) {
        String loading = ctx.channel().attr(LOADING).get();
        return unloaded == null
                && response.status().code() >= 500
                && loading != null
                && isKnown(loading);
    }

    private void writeOnceGone(
            ChannelHandlerContext ctx, Object msg, ChannelPromise promise, long begunNs) {
        boolean late = System.nanoTime() - begunNs > GONE_LIMIT_NS;
        if (late || !isEarly(ctx, (HttpResponse) msg)) {
            writeNow(ctx, msg, promise);
            ctx.flush();
        } else {
            ctx.executor()
                    .schedule(
                            () -> writeOnceGone(ctx, msg, promise, begunNs),
                            GONE_POLL_MS,
                            TimeUnit.MILLISECONDS);
        }
    }

    private void writeNow(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (msg instanceof HttpResponse) {
            String gone = goneWith(ctx.channel(), ((HttpResponse) msg).status().code());
            answered();
            if (gone != null) {
                for (Channel connection : traffic.connections()) {
                    ModelDeparture other = connection.pipeline().get(ModelDeparture.class);
                    if (other != null) {
                        connection.eventLoop().execute(() -> other.answerFor(gone));
                    }
                }
            }
        }
        ctx.write(msg, promise);
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        invocationEnded(); // an unload goes on without its client
        ctx.fireChannelInactive();
    }

    private void invocationEnded() {
        if (invoked != null) {
            traffic.answered(invoked);
            invoked = null;
        }
    }

    private void answered() {
        invocationEnded();
        if (unloaded != null) {
            traffic.modelLeft(unloaded);
            unloaded = null;
        }
    }

    /** The model that is gone with this answer, if any. */
    private String goneWith(Channel channel, int status) {
        if (unloaded != null) {
            return isKnown(unloaded) ? null : unloaded;
        }
        // A load that failed is unregistered; below 500 the request was refused and changed nothing.
        return status >= 500 ? channel.attr(LOADING).getAndSet(null) : null;
    }

    private static boolean isKnown(String model) {
        return ModelManager.getInstance().getModels().containsKey(model);
    }

    private void answerFor(String gone) {
        long waiting = requests;
        if (gone.equals(invoked)) {
            context.executor()
                    .schedule(
                            () -> {
                                // MMS forgets a model before anything of its unloading can fail,
                                // and a failed load may have been of a name that is in use.
                                if (requests == waiting
                                        && gone.equals(invoked)
                                        && !isKnown(gone)) {
                                    refuse("The model was unloaded before it answered: " + gone);
                                }
                            },
                            MMS_ANSWERS_MS,
                            TimeUnit.MILLISECONDS);
        }
    }

    private void refuse(String message) {
        NettyUtils.sendError(
                context,
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                new ServiceUnavailableException(message));
    }
}

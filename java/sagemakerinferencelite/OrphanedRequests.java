// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.ServiceUnavailableException;
import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.channel.group.ChannelGroup;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.AttributeKey;
import java.util.concurrent.TimeUnit;

/**
 * Answers the requests that still wait for a model when it is gone: unloaded, or never loaded.
 *
 * <p>MMS leaves them in a queue that no worker reads any more, and puts the one that a worker was
 * busy with back into it, unless the worker's own end comes first (WorkerThread.java, shutdown;
 * BatchAggregator.java, sendError). Their clients would wait for ever.
 *
 * <p>It stands behind the aggregator, so it sees whole requests, one at a time for each connection.
 */
final class OrphanedRequests extends ChannelDuplexHandler {

    /** The model that the POST /models under way is to load, where the request says so. */
    static final AttributeKey<String> LOADING = AttributeKey.valueOf("loading");

    /** MMS answers some of them itself, and with what it knows. */
    private static final long MMS_ANSWERS_MS = 500;

    private final ChannelGroup connections;
    private ChannelHandlerContext context;

    /** Counts requests, to tell the one that waited when its model went from a later one. */
    private long requests;
    /** The model that the request under way is for; null between requests, and for others. */
    private String invoked;
    /** The model that the request under way unloads. */
    private String unloaded;

    OrphanedRequests(ChannelGroup connections) {
        this.connections = connections;
    }

    @Override
    public void handlerAdded(ChannelHandlerContext ctx) {
        context = ctx;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        requests++;
        invoked = null;
        unloaded = null;
        ctx.channel().attr(LOADING).set(null);
        // The path is taken apart as MMS does it (HttpRequestHandler.java).
        String[] segments = new QueryStringDecoder(request.uri()).path().split("/");
        if (segments.length == 4 && segments[1].equals("models")) {
            invoked = segments[2];
        } else if (segments.length == 3 && HttpMethod.DELETE.equals(request.method())) {
            unloaded = segments[2];
        }
        ctx.fireChannelRead(request);
    }

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (msg instanceof HttpResponse) {
            String gone = goneWith(ctx.channel(), ((HttpResponse) msg).status().code());
            invoked = null;
            unloaded = null;
            if (gone != null) {
                for (Channel connection : connections) {
                    OrphanedRequests other = connection.pipeline().get(OrphanedRequests.class);
                    if (other != null) {
                        connection.eventLoop().execute(() -> other.answerFor(gone));
                    }
                }
            }
        }
        ctx.write(msg, promise);
    }

    /** The model that is gone with this answer, if any. */
    private String goneWith(Channel channel, int status) {
        if (unloaded != null) {
            return status == 200 ? unloaded : null;
        }
        // A load that failed is unregistered; below 500 the request was refused and changed nothing.
        return status >= 500 ? channel.attr(LOADING).getAndSet(null) : null;
    }

    private void answerFor(String gone) {
        long waiting = requests;
        if (gone.equals(invoked)) {
            context.executor()
                    .schedule(
                            () -> {
                                if (requests == waiting && gone.equals(invoked)) {
                                    NettyUtils.sendError(
                                            context,
                                            HttpResponseStatus.SERVICE_UNAVAILABLE,
                                            new ServiceUnavailableException(
                                                    "The model was unloaded before it answered: "
                                                            + gone));
                                }
                            },
                            MMS_ANSWERS_MS,
                            TimeUnit.MILLISECONDS);
        }
    }
}

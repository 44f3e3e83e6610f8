// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.http.Session;
import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.CharsetUtil;
import io.netty.util.ReferenceCountUtil;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets a connection's requests in or refuses them, and reports both to {@link Traffic}.
 *
 * <p>It sits right behind the HTTP codec, so it sees a request's head before its body has arrived
 * and a response after MMS has finished its headers. An admitted request is in flight from its head
 * until its response has been written or the connection is gone.
 *
 * <p>A refused request is the last of its connection. It is answered at once, but the connection is
 * read until the body's end before it is closed: closing with unread bytes makes the kernel send a
 * reset, and the client, perhaps still sending, would never see the answer.
 */
final class RequestGuard extends ChannelDuplexHandler implements ChannelFutureListener {

    /** MMS's own (NettyUtils.java), where refused requests belong like all others. */
    private static final Logger ACCESS_LOG = LoggerFactory.getLogger("ACCESS_LOG");

    /** How much of a refused body is read, as a multiple of what an admitted one may hold. */
    private static final long PATIENCE = 10;

    /** How long a client that may keep its body to itself (Expect: 100-continue) is waited for. */
    private static final long EXPECT_SECONDS = 1;

    private final Traffic traffic;
    private final int maxBody;

    /** Admitted requests of this connection whose response has not come by yet. */
    private int unanswered;
    /** The request being read. */
    private HttpRequest head;
    /** Bytes of its body so far. */
    private long received;
    /** Room for bodies that this connection has set aside. */
    private long reserved;
    /** The request being read is refused; nothing is passed on any more. */
    private boolean refused;
    /** The connection ends with the response that leaves nothing unanswered. */
    private boolean closing;

    RequestGuard(Traffic traffic, int maxBody) {
        this.traffic = traffic;
        this.maxBody = maxBody;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        if (!refused && msg instanceof HttpRequest) {
            head = (HttpRequest) msg;
            received = 0;
            checkHead(ctx);
        }
        if (msg instanceof HttpContent) {
            received += ((HttpContent) msg).content().readableBytes();
            // Nothing is unanswered if the aggregator has already refused it (Expect: 417).
            if (!refused && unanswered > 0) {
                checkBody(ctx);
            }
        }
        if (refused) {
            discard(ctx, msg);
        } else {
            ctx.fireChannelRead(msg);
        }
    }

    private void checkHead(ChannelHandlerContext ctx) {
        // MMS answers "Connection: keep-alive" whatever the client wants (NettyUtils.java and its
        // callers: keepAlive is always true), which leaves an HTTP/1.0 client waiting for the end.
        closing |= !HttpUtil.isKeepAlive(head);
        // MMS knows no HEAD, and for an endpoint plugin answers it with 500. The codec remembers
        // what was asked and leaves the body out (Netty: HttpServerCodec).
        if (HttpMethod.HEAD.equals(head.method())) {
            head.setMethod(HttpMethod.GET);
        }
        if (!traffic.admit()) {
            refuse(
                    ctx,
                    HttpResponseStatus.SERVICE_UNAVAILABLE,
                    "ServiceUnavailableException",
                    "The server is stopping and takes no new requests.");
        } else {
            unanswered++;
            // The codec has not checked the length in a head that it could not decode.
            long length =
                    head.decoderResult().isSuccess() ? HttpUtil.getContentLength(head, 0L) : 0;
            if (length > maxBody) {
                withdraw();
                refuseBody(ctx, length + " bytes");
            } else if (!reserve(length)) {
                withdraw();
                refuseForWantOfRoom(ctx);
            }
        }
        if (refused && HttpUtil.is100ContinueExpected(head)) {
            ctx.executor()
                    .schedule(
                            () -> NettyUtils.closeOnFlush(ctx.channel()),
                            EXPECT_SECONDS,
                            TimeUnit.SECONDS);
        }
    }

    /** Refuses a chunked body that turns out too large, which MMS answers with an empty 413. */
    private void checkBody(ChannelHandlerContext ctx) {
        if (received > maxBody) {
            withdraw();
            refuseBody(ctx, "more than " + maxBody + " bytes");
        } else if (received > reserved && !reserve(received - reserved)) {
            withdraw();
            refuseForWantOfRoom(ctx);
        } else {
            return;
        }
        // It holds the beginning of the body; removed, it lets go of it now rather than at the end.
        ctx.pipeline().remove(HttpObjectAggregator.class);
    }

    private void refuseForWantOfRoom(ChannelHandlerContext ctx) {
        refuse(
                ctx,
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                "The server has no room for this body beside those of the requests it has taken"
                        + " (-XX:MaxDirectMemorySize in SAGEMAKER_MODEL_SERVER_VMARGS).");
    }

    private boolean reserve(long bytes) {
        if (!traffic.reserve(bytes)) {
            return false;
        }
        reserved += bytes;
        return true;
    }

    private void freeReserved() {
        traffic.free(reserved);
        reserved = 0;
    }

    private void refuseBody(ChannelHandlerContext ctx, String size) {
        refuse(
                ctx,
                HttpResponseStatus.REQUEST_ENTITY_TOO_LARGE,
                "RequestTooLargeException",
                String.format(
                        "The request body has %s; the limit is %d bytes"
                                + " (SAGEMAKER_MAX_PAYLOAD_IN_MB).",
                        size, maxBody));
    }

    /** Takes back the admission of the request being read. */
    private void withdraw() {
        unanswered--;
        traffic.end(1);
        if (unanswered == 0) {
            freeReserved();
        }
    }

    private void refuse(
            ChannelHandlerContext ctx, HttpResponseStatus status, String type, String message) {
        refused = true;
        closing = true;
        traffic.refusalBegun();
        Session session = new Session(String.valueOf(ctx.channel().remoteAddress()), head);
        session.setCode(status.code());
        ACCESS_LOG.info(session.toString());
        // A pipelined request is not answered before its predecessors. Their last response closes
        // the connection, and that tells the client that this request was not taken.
        if (unanswered == 0) {
            ByteBuf body =
                    Unpooled.copiedBuffer(ErrorBody.of(status, type, message), CharsetUtil.UTF_8);
            FullHttpResponse response =
                    new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, body);
            response.headers()
                    .set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON)
                    .set(HttpHeaderNames.CONTENT_LENGTH, body.readableBytes())
                    .set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
            ctx.writeAndFlush(response);
        }
    }

    private void discard(ChannelHandlerContext ctx, Object msg) {
        boolean end =
                msg instanceof LastHttpContent
                        || received > PATIENCE * maxBody
                        || ((HttpObject) msg).decoderResult().isFailure();
        ReferenceCountUtil.release(msg);
        if (end && unanswered == 0) {
            NettyUtils.closeOnFlush(ctx.channel());
        }
    }

    /** {@inheritDoc} MMS and its aggregator write each response as one full message. */
    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise) {
        if (unanswered > 0 && msg instanceof HttpResponse && isFinal((HttpResponse) msg)) {
            unanswered--;
            promise.addListener(this);
            if (unanswered == 0) {
                freeReserved();
            }
            if (unanswered == 0 && (closing || traffic.isDraining())) {
                HttpResponse response = (HttpResponse) msg;
                response.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
                promise.addListener(ChannelFutureListener.CLOSE);
            }
        }
        ctx.write(msg, promise);
    }

    private static boolean isFinal(HttpResponse response) {
        return response.status().codeClass() != HttpStatusClass.INFORMATIONAL;
    }

    /** A response has been written, or its connection was lost first. */
    @Override
    public void operationComplete(ChannelFuture written) {
        traffic.end(1);
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        traffic.end(unanswered);
        unanswered = 0;
        freeReserved();
        if (refused) {
            traffic.refusalEnded();
        }
        ctx.fireChannelInactive();
    }
}

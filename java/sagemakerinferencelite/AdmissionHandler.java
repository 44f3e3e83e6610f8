// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.NettyUtils;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.channel.socket.DuplexChannel;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.EmptyHttpHeaders;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.CharsetUtil;
import io.netty.util.ReferenceCountUtil;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets a connection's requests in or refuses them, and reports both to {@link InFlight}.
 *
 * <p>It sits right behind the HTTP codec, so it sees a request's head before its body has arrived
 * and a response after MMS has finished its headers. An admitted request is in flight from its head
 * until its response has been written or the connection is gone. It is passed on when it is whole.
 *
 * <p>Room for a body is taken by the bytes that have come, not by those that are announced, and a
 * client that sends nothing more, or takes nothing of its answer, is not waited for for ever (see
 * {@link Watch}).
 *
 * <p>A refused request is the last of its connection. It is answered at once, but the connection is
 * read until the body's end before it is closed: closing with unread bytes makes the kernel send a
 * reset, and the client, perhaps still sending, would never see the answer.
 */
final class AdmissionHandler extends ChannelDuplexHandler
        implements ChannelFutureListener, Watch.Waiting {

    private static final Logger LOG = LoggerFactory.getLogger(AdmissionHandler.class);

    /** How much of a refused body is read, as a multiple of what an admitted one may hold. */
    private static final long PATIENCE = 10;

    private final InFlight traffic;
    private final int maxBody;

    private ChannelHandlerContext ctx;
    private Taking taking;

    /** The request being read; null between requests. */
    private HttpRequest head;
    /** Of the request that is in hand. */
    private AccessLog log;
    /** Bytes of its body so far. */
    private long received;
    /** They, where they come in several pieces. */
    private Body body;
    /** When something of them came that was not the end, on System.nanoTime()'s clock. */
    private long lastReceivedNs;
    /** Room that the request's body takes, until it is answered. */
    private long held;
    /** A request is admitted, and its response has not come by yet. */
    private boolean unanswered;
    /** The request being read is refused; nothing is passed on any more. */
    private boolean refused;
    /** The connection ends with the response to the request that is in hand. */
    private boolean closing;

    private boolean watched;

    AdmissionHandler(InFlight traffic, int maxBody) {
        this.traffic = traffic;
        this.maxBody = maxBody;
    }

    @Override
    public void handlerAdded(ChannelHandlerContext added) {
        ctx = added;
        taking = new Taking(added.channel());
    }

    // -- Requests --

    @Override
    public void channelRead(ChannelHandlerContext unused, Object msg) {
        try {
            if (!refused && msg instanceof HttpRequest) {
                begin((HttpRequest) msg);
            } else if (!refused) {
                take((HttpContent) msg);
            }
            if (refused && msg instanceof HttpContent) {
                discard((HttpContent) msg);
            }
        } finally {
            ReferenceCountUtil.release(msg);
        }
    }

    private void begin(HttpRequest request) {
        if (!ctx.channel().isActive()) {
            return; // Netty makes a bad request of the head that a client went away in
        }
        head = request;
        log = new AccessLog(ctx.channel(), head);
        received = 0;
        try {
            HeadCheck.check(head, maxBody);
            // MMS answers "Connection: keep-alive" whatever the client wants (NettyUtils.java and its
            // callers: keepAlive is always true), which leaves an HTTP/1.0 client waiting for the end.
            closing = !HttpUtil.isKeepAlive(head);
            if (!traffic.admit()) {
                throw new BadMessageException(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "The server is stopping and takes no new requests.");
            }
        } catch (BadMessageException e) {
            refuse(e);
            return;
        }
        unanswered = true;
        if (HttpUtil.is100ContinueExpected(head)) {
            head.headers().remove(HttpHeaderNames.EXPECT);
            ctx.writeAndFlush(
                    new DefaultFullHttpResponse(
                            HttpVersion.HTTP_1_1,
                            HttpResponseStatus.CONTINUE,
                            Unpooled.EMPTY_BUFFER));
        }
    }

    private void take(HttpContent content) {
        boolean isLast = content instanceof LastHttpContent;
        try {
            if (content.decoderResult().isFailure()) {
                throw BadMessageException.of(content.decoderResult());
            }
            ByteBuf piece = content.content();
            received += piece.readableBytes();
            if (received > maxBody) {
                throw HeadCheck.tooLarge("more than " + maxBody, maxBody);
            }
            if (isLast && body == null && isKeptAsItIs(piece)) {
                takeRoom(received);
                passOn(piece.retain());
            } else {
                gather(piece);
                if (isLast) {
                    passOn(body.whole());
                }
            }
        } catch (BadMessageException e) {
            withdraw();
            refuse(e);
        }
    }

    /** A small body is copied by who asks for it; a large one keeps the memory that it was read into. */
    private static boolean isKeptAsItIs(ByteBuf piece) {
        return piece.readableBytes() <= Invocation.SMALL_BODY_BYTES
                || !Body.isPartOfMuchMore(piece);
    }

    private void gather(ByteBuf piece) throws BadMessageException {
        if (body == null) {
            body = new Body(ctx.alloc(), maxBody);
        }
        try {
            body.add(piece);
        } catch (OutOfMemoryError e) { // of the memory outside the heap
            throw HeadCheck.noRoom();
        }
        takeRoom(body.held());
    }

    private void takeRoom(long bytes) throws BadMessageException {
        if (bytes > held && !Room.takeForBody(bytes - held, bytes)) {
            throw HeadCheck.noRoom();
        }
        held = Math.max(held, bytes);
    }

    private void freeRoom() {
        if (held != 0) {
            Room.free(held);
            held = 0;
        }
        if (body != null) {
            body.release();
            body = null;
        }
    }

    private void passOn(ByteBuf content) {
        HttpHeaders headers = head.headers();
        if (!headers.contains(HttpHeaderNames.CONTENT_LENGTH)) {
            headers.remove(HttpHeaderNames.TRANSFER_ENCODING);
            headers.setInt(HttpHeaderNames.CONTENT_LENGTH, content.readableBytes());
        }
        FullHttpRequest whole =
                new DefaultFullHttpRequest(
                        head.protocolVersion(),
                        head.method(),
                        head.uri(),
                        content,
                        headers,
                        EmptyHttpHeaders.INSTANCE);
        head = null;
        body = null;
        ctx.fireChannelRead(whole);
    }

    @Override
    public void channelReadComplete(ChannelHandlerContext unused) {
        if (head != null && !refused) {
            lastReceivedNs = System.nanoTime();
            watch();
        }
        ctx.fireChannelReadComplete();
    }

    // -- Refusals --

    /** Takes back the admission of the request being read. */
    private void withdraw() {
        unanswered = false;
        traffic.end(1);
        freeRoom();
    }

    private void refuse(BadMessageException why) {
        refused = true;
        traffic.refusalBegun();
        lastReceivedNs = System.nanoTime();
        log.answered(why.status().code(), null);
        ctx.writeAndFlush(refusal(why)).addListener(afterRefusal(why));
        watch();
    }

    private static FullHttpResponse refusal(BadMessageException why) {
        HttpResponseStatus status = why.status();
        String text = ErrorBody.of(status, why.type(), why.getMessage());
        ByteBuf content = Unpooled.copiedBuffer(text, CharsetUtil.UTF_8);
        FullHttpResponse response =
                new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, content);
        response.headers()
                .set(HttpHeaderNames.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON)
                .set(HttpHeaderNames.CONTENT_LENGTH, content.readableBytes())
                .set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
        return response;
    }

    /**
     * Tells a client that the answer was all, where no end of a body will be seen: it cannot be told
     * where it is, or the client may keep it to itself (Expect: 100-continue).
     */
    private ChannelFutureListener afterRefusal(BadMessageException why) {
        if (why.status().equals(HttpResponseStatus.REQUEST_TIMEOUT)) {
            return ChannelFutureListener.CLOSE;
        }
        boolean isRead = head.decoderResult().isSuccess() && !HttpUtil.is100ContinueExpected(head);
        return written -> {
            if (!isRead && written.channel() instanceof DuplexChannel) {
                ((DuplexChannel) written.channel()).shutdownOutput();
            }
        };
    }

    private void discard(HttpContent content) {
        received += content.content().readableBytes();
        lastReceivedNs = System.nanoTime();
        boolean isBad = content.decoderResult().isFailure();
        if (isBad && ctx.channel() instanceof DuplexChannel) {
            DuplexChannel channel = (DuplexChannel) ctx.channel();
            // Behind what is still on its way.
            ctx.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(sent -> channel.shutdownOutput());
        } else if (content instanceof LastHttpContent || received > PATIENCE * maxBody) {
            NettyUtils.closeOnFlush(ctx.channel());
        }
    }

    // -- Responses --

    /** {@inheritDoc} MMS writes each response as one full message. */
    @Override
    public void write(ChannelHandlerContext unused, Object msg, ChannelPromise promise) {
        if (unanswered && msg instanceof HttpResponse && HttpCodec.isFinal((HttpResponse) msg)) {
            unanswered = false;
            HttpResponse answer = (HttpResponse) msg;
            log.answered(answer.status().code(), answer.headers().get(Responses.REQUEST_ID));
            freeRoom();
            promise.addListener(this);
            countLarge(msg, promise);
            if (closing || traffic.isDraining()) {
                answer.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
                promise.addListener(ChannelFutureListener.CLOSE);
            }
        }
        ctx.write(msg, promise);
    }

    private void countLarge(Object msg, ChannelPromise promise) {
        long bytes =
                msg instanceof HttpContent ? ((HttpContent) msg).content().readableBytes() : 0;
        if (bytes > Room.SMALL_BYTES) {
            taking.come(bytes);
            promise.addListener(written -> taking.gone(bytes));
        }
    }

    @Override
    public void flush(ChannelHandlerContext unused) {
        ctx.flush();
        if (!watched && taking.isWaiting()) {
            taking.look(System.nanoTime());
            watch();
        }
    }

    /** A response has been written, or could not be. */
    @Override
    public void operationComplete(ChannelFuture written) {
        traffic.end(1);
        if (!written.isSuccess()) {
            written.channel().close();
        }
    }

    // -- Clients that do nothing --

    private void watch() {
        if (!watched && ctx.channel().isActive()) {
            watched = true;
            Watch.add(this, ctx.executor());
        }
    }

    @Override
    public boolean check(long nowNs) {
        watched = false;
        if (!ctx.channel().isActive()) {
            return false;
        }
        taking.look(nowNs);
        if (taking.stalledNs(nowNs) > limitNs(Room.isShort())) {
            LOG.warn(
                    "a client that takes nothing of its answer is given up: {}",
                    ctx.channel().remoteAddress());
            ctx.close();
        } else if (isStalled(nowNs)) {
            endUpload();
        }
        watched = ctx.channel().isActive() && (head != null || taking.isWaiting());
        return watched;
    }

    private boolean isStalled(long nowNs) {
        boolean isHurried = refused || traffic.isDraining() || Room.isShort();
        return head != null && nowNs - lastReceivedNs > limitNs(isHurried);
    }

    private static long limitNs(boolean isHurried) {
        return isHurried ? Watch.SHORT_STALL_NS : Watch.STALL_NS;
    }

    private void endUpload() {
        if (refused) {
            ctx.close();
            return;
        }
        withdraw();
        refuse(
                new BadMessageException(
                        HttpResponseStatus.REQUEST_TIMEOUT,
                        String.format(
                                "The request's body stopped after %d bytes; nothing has come since.",
                                received)));
    }

    @Override
    public void channelInactive(ChannelHandlerContext unused) {
        head = null;
        if (unanswered) {
            unanswered = false;
            log.abandoned();
            traffic.end(1);
        }
        freeRoom();
        taking.end();
        if (refused) {
            traffic.refusalEnded();
        }
        ctx.fireChannelInactive();
    }
}

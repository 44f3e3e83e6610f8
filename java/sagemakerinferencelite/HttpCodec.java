// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.channel.CombinedChannelDuplexHandler;
import io.netty.handler.codec.DecoderResult;
import io.netty.handler.codec.http.DefaultLastHttpContent;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpMessage;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpRequestDecoder;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseEncoder;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.AsciiString;
import java.util.List;

/**
 * From a connection's bytes to requests and from responses to bytes, one request at a time.
 *
 * <p>The next request is not looked at before the one before it is answered, and its client takes
 * its answers: what a client sends without waiting is answered in order, whatever it is, and waits
 * in the kernel, where it costs this process nothing, but for what one read has taken. Behind an answer that closes the connection
 * nothing is a request any more (RFC 9112, section 9.6).
 *
 * <p>Heads and bodies of a stated length are Netty's to read. Chunked bodies are read by {@link
 * ChunkedBody}, and what a head says of its body is checked here: where two readers could disagree
 * about a request's end it is refused, and nothing behind it is read.
 */
final class HttpCodec extends CombinedChannelDuplexHandler<HttpRequestDecoder, HttpResponseEncoder> {

    /** More than one read gives: it comes only from a client that has gone. */
    private static final int MAX_AHEAD_BYTES = 1 << 20;

    /** The method of the request that is to be answered. */
    private HttpMethod method;
    /** A request's head has come, and its answer has not come by. */
    private boolean asked;
    /** Nothing that comes is a request any more. */
    private boolean ended;
    /** Bytes of a further request are there, and are left alone for now. */
    private boolean paused;
    /** Room that they take. */
    private long held;
    /** There was no room for them: the connection ends with the answer that is due, or under way. */
    private boolean dropped;

    HttpCodec(int maxLineBytes, int maxHeaderBytes, int maxPieceBytes) {
        init(new Decoder(maxLineBytes, maxHeaderBytes, maxPieceBytes), new Encoder());
    }

    @Override
    public void write(ChannelHandlerContext ctx, Object msg, ChannelPromise promise)
            throws Exception {
        boolean isAnswer = msg instanceof HttpResponse && isFinal((HttpResponse) msg);
        if (isAnswer) {
            checkEnd((HttpResponse) msg, promise);
        }
        super.write(ctx, msg, promise);
        if (isAnswer) {
            asked = false;
            resumeIfPaused(ctx);
        }
    }

    private void checkEnd(HttpResponse response, ChannelPromise promise) {
        HttpHeaders headers = response.headers();
        if (dropped) {
            headers.set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
            promise.addListener(ChannelFutureListener.CLOSE);
        }
        ended |= headers.contains(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE, true);
    }

    static boolean isFinal(HttpResponse response) {
        return response.status().codeClass() != HttpStatusClass.INFORMATIONAL;
    }

    @Override
    public void channelWritabilityChanged(ChannelHandlerContext ctx) throws Exception {
        resumeIfPaused(ctx);
        super.channelWritabilityChanged(ctx);
    }

    private void resumeIfPaused(ChannelHandlerContext ctx) {
        if (paused) {
            // Not from within: a row of answers that are there at once would nest.
            ctx.executor().execute(() -> resume(ctx));
        }
    }

    private void resume(ChannelHandlerContext ctx) {
        if (paused && !mustWait(ctx) && ctx.channel().isActive()) {
            paused = false;
            freeRoom();
            try {
                channelRead(ctx, Unpooled.EMPTY_BUFFER);
                if (!paused) {
                    // Not before: each answer of a row would read more than it has taken.
                    ctx.channel().config().setAutoRead(true);
                }
                channelReadComplete(ctx);
            } catch (Throwable t) { // for want of memory too: nobody else would hear of it
                ctx.fireExceptionCaught(t);
            }
        }
    }

    /** Leaves what is there alone, and reads no more. */
    private void pause(ChannelHandlerContext ctx, ByteBuf ahead) {
        if (!ctx.channel().isActive()) {
            ended = true;
            ahead.skipBytes(ahead.readableBytes());
            return;
        }
        paused = true;
        ctx.channel().config().setAutoRead(false);
        // Netty reads on where the client has gone, until it finds the end of all that it has sent.
        if (ahead.readableBytes() > MAX_AHEAD_BYTES || !takeRoom(ahead.capacity())) {
            ended = true;
            dropped = true;
            ahead.skipBytes(ahead.readableBytes());
            if (!asked) {
                ctx.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(ChannelFutureListener.CLOSE);
            }
        }
    }

    private boolean takeRoom(long bytes) {
        if (bytes > held && !Room.takeForBody(bytes - held, bytes)) {
            return false;
        }
        held = Math.max(held, bytes);
        return true;
    }

    private void freeRoom() {
        Room.free(held);
        held = 0;
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) throws Exception {
        try {
            super.channelInactive(ctx);
        } finally {
            freeRoom();
        }
    }

    private boolean mustWait(ChannelHandlerContext ctx) {
        return asked || !ctx.channel().isWritable();
    }

    private final class Decoder extends HttpRequestDecoder {

        /** A head has come, and its body has not come to its end. */
        private boolean inBody;

        private ChunkedBody chunks;
        /** The head that is being read says how long its body is in two ways. */
        private boolean saysTwice;

        Decoder(int maxLineBytes, int maxHeaderBytes, int maxPieceBytes) {
            super(maxLineBytes, maxHeaderBytes, maxPieceBytes);
        }

        @Override
        protected void decode(ChannelHandlerContext ctx, ByteBuf in, List<Object> out)
                throws Exception {
            if (chunks != null) {
                decodeChunks(ctx, in, out);
            } else if (inBody) {
                super.decode(ctx, in, out);
                inBody = !(last(out) instanceof LastHttpContent);
            } else if (ended) {
                in.skipBytes(in.readableBytes());
            } else if (mustWait(ctx)) {
                pause(ctx, in);
            } else {
                decodeHead(ctx, in, out);
            }
        }

        /** {@inheritDoc} Netty's asks for more where nothing has come out. */
        @Override
        public void channelReadComplete(ChannelHandlerContext ctx) throws Exception {
            if (paused) {
                discardSomeReadBytes();
                ctx.fireChannelReadComplete();
            } else {
                super.channelReadComplete(ctx);
            }
        }

        private void decodeHead(ChannelHandlerContext ctx, ByteBuf in, List<Object> out)
                throws Exception {
            saysTwice = false;
            super.decode(ctx, in, out);
            if (out.isEmpty()) {
                return;
            }
            HttpRequest head = (HttpRequest) out.get(0);
            asked = true;
            method = head.method();
            if (head.decoderResult().isSuccess()) {
                try {
                    checkFraming(head);
                } catch (BadMessageException e) {
                    head.setDecoderResult(DecoderResult.failure(e));
                }
            }
            if (head.decoderResult().isFailure()) {
                ended = true;
                out.subList(1, out.size()).clear();
            } else {
                inBody = !(last(out) instanceof LastHttpContent);
            }
        }

        private void decodeChunks(ChannelHandlerContext ctx, ByteBuf in, List<Object> out) {
            try {
                chunks.decode(ctx.alloc(), in, out);
            } catch (BadMessageException e) {
                in.skipBytes(in.readableBytes());
                HttpContent bad = new DefaultLastHttpContent(Unpooled.EMPTY_BUFFER);
                bad.setDecoderResult(DecoderResult.failure(e));
                out.add(bad);
                ended = true;
            }
            if (ended || chunks.isEnded()) {
                inBody = false;
                chunks = null;
                reset(); // Netty's part still waits for the first chunk
            }
        }

        /** Refuses a head that leaves its body's length to guessing (RFC 9112, sections 6.1 and 6.3). */
        private void checkFraming(HttpRequest head) throws BadMessageException {
            HttpVersion version = head.protocolVersion();
            if (version != HttpVersion.HTTP_1_1 && version != HttpVersion.HTTP_1_0) {
                throw new BadMessageException(
                        HttpResponseStatus.HTTP_VERSION_NOT_SUPPORTED,
                        "The protocol is " + version.text() + "; expected HTTP/1.1 or HTTP/1.0.");
            }
            HttpHeaders headers = head.headers();
            if (!headers.contains(HttpHeaderNames.TRANSFER_ENCODING)) {
                return;
            }
            if (version == HttpVersion.HTTP_1_0) {
                throw new BadMessageException("HTTP/1.0 knows no Transfer-Encoding.");
            }
            checkCoding(String.join(",", headers.getAll(HttpHeaderNames.TRANSFER_ENCODING)));
            chunks = new ChunkedBody();
            if (saysTwice) {
                headers.set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
            }
        }

        private void checkCoding(String codings) throws BadMessageException {
            String coding = codings.trim();
            if (coding.equalsIgnoreCase("chunked")) {
                return;
            }
            String[] names = coding.split("\\s*,\\s*", -1);
            boolean endsChunked = names[names.length - 1].equalsIgnoreCase("chunked");
            boolean isRepeated = names[0].equalsIgnoreCase("chunked");
            throw new BadMessageException(
                    endsChunked && !isRepeated
                            ? HttpResponseStatus.NOT_IMPLEMENTED
                            : HttpResponseStatus.BAD_REQUEST,
                    "Transfer-Encoding is \"" + coding + "\"; expected chunked and nothing else.");
        }

        /** {@inheritDoc} Both may be there, if the connection ends with the answer (RFC 9112, section 6.1). */
        @Override
        protected void handleTransferEncodingChunkedWithContentLength(HttpMessage message) {
            saysTwice = true;
            super.handleTransferEncodingChunkedWithContentLength(message);
        }

        /** {@inheritDoc} White space before the first name would be skipped (RFC 9112, section 2.2). */
        @Override
        protected AsciiString splitHeaderName(byte[] line, int start, int length) {
            if (start > 0) {
                throw new IllegalArgumentException("white space before the name of a header");
            }
            return super.splitHeaderName(line, start, length);
        }

        private Object last(List<Object> out) {
            return out.isEmpty() ? null : out.get(out.size() - 1);
        }
    }

    /** As that of HttpServerCodec, which takes an interim response for the one that was asked for. */
    private final class Encoder extends HttpResponseEncoder {

        @Override
        protected void sanitizeHeadersBeforeEncode(HttpResponse response, boolean isAlwaysEmpty) {
            boolean opensTunnel =
                    HttpMethod.CONNECT.equals(method)
                            && response.status().codeClass() == HttpStatusClass.SUCCESS;
            if (!isAlwaysEmpty && opensTunnel) {
                response.headers().remove(HttpHeaderNames.TRANSFER_ENCODING);
                return;
            }
            super.sanitizeHeadersBeforeEncode(response, isAlwaysEmpty);
        }

        @Override
        protected boolean isContentAlwaysEmpty(HttpResponse response) {
            return HttpMethod.HEAD.equals(method) || super.isContentAlwaysEmpty(response);
        }
    }
}

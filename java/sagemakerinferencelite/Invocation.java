// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.EventLoop;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/**
 * One request for a prediction, from its arrival to its answer.
 *
 * <p>What the worker gets of it is written down once, when it arrives. A large body is not copied:
 * the memory that it was received into is what is sent.
 */
final class Invocation {

    /** Below it, to copy a body costs less than to send one piece more. */
    static final int SMALL_BODY_BYTES = 16 * 1024;

    /** What a part of a frame may hold beside itself. */
    private static final int SLACK_BYTES = 4096;

    private static final String BODY = "body";

    private static final ByteBuf ZEROS =
            Unpooled.unreleasableBuffer(
                    Unpooled.directBuffer(Frames.LARGE_BODY_AT)
                            .writeZero(Frames.LARGE_BODY_AT)
                            .asReadOnly());

    final long arrivedNs = System.nanoTime();

    private final Channel channel;
    private final String id = newId();

    /** Its part of a frame, behind room for the frame's head. */
    private ByteBuf head;
    /** The body, where it is large; the frame goes on with it. */
    private ByteBuf body;

    /**
     * Takes in a request, which stays the caller's.
     *
     * @param query the decoded URI, where MMS shows query parameters to handlers, else null
     */
    Invocation(Channel channel, FullHttpRequest request, QueryStringDecoder query) {
        this.channel = channel;
        head = channel.alloc().directBuffer(512 + Math.min(request.content().readableBytes(), SMALL_BODY_BYTES));
        try {
            head.writeZero(Frames.REQUESTS_HEAD_BYTES);
            Frames.writeText(head, id);
            writeHeaders(request.headers());
            writeParameters(request, query);
        } catch (Throwable t) {
            release();
            throw t;
        }
    }

    /** An id that looks like MMS's own, from a generator that threads do not wait for each other for. */
    static String newId() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        return new UUID(
                        random.nextLong() & 0xffffffffffff0fffL | 0x4000L,
                        random.nextLong() & 0x3fffffffffffffffL | 0x8000000000000000L)
                .toString();
    }

    private void writeHeaders(HttpHeaders headers) {
        int at = head.writerIndex();
        head.writeInt(0);
        Iterator<Map.Entry<CharSequence, CharSequence>> entries = headers.iteratorCharSequence();
        while (entries.hasNext()) {
            Map.Entry<CharSequence, CharSequence> entry = entries.next();
            Frames.writeText(head, entry.getKey());
            Frames.writeText(head, entry.getValue());
        }
        head.setInt(at, head.writerIndex() - at - 4);
    }

    /** MMS's order: those of the query, and then the body. A form is one too: its worker takes it apart. */
    private void writeParameters(FullHttpRequest request, QueryStringDecoder query) {
        int at = head.writerIndex();
        int count = 0;
        head.writeInt(0);
        if (query != null) {
            for (Map.Entry<String, List<String>> entry : query.parameters().entrySet()) {
                for (String value : entry.getValue()) {
                    Frames.writeText(head, entry.getKey());
                    Frames.writeText(head, "");
                    Frames.writeText(head, value);
                    count++;
                }
            }
        }
        CharSequence contentType = HttpUtil.getMimeType(request);
        Frames.writeText(head, BODY);
        Frames.writeText(head, contentType == null ? "" : contentType);
        writeBody(request.content());
        head.setInt(at, count + 1);
    }

    private void writeBody(ByteBuf content) {
        head.writeInt(content.readableBytes());
        if (content.readableBytes() <= SMALL_BODY_BYTES) {
            head.writeBytes(content, content.readerIndex(), content.readableBytes());
        } else {
            body = content.retainedSlice();
        }
    }

    EventLoop loop() {
        return channel.eventLoop();
    }

    private long frameBytes() {
        long large = body == null ? 0 : body.readableBytes();
        return head.readableBytes() - Frames.REQUESTS_HEAD_BYTES + large;
    }

    /** Writes a frame of these requests to a worker's connection, which takes over their memory. */
    static void send(List<Invocation> batch, Channel worker) {
        Invocation first = batch.get(0);
        int padding = batch.size() == 1 ? first.padding() : 0;
        long length = Frames.REQUESTS_HEAD_BYTES - Frames.LENGTH_BYTES + padding;
        for (Invocation each : batch) {
            length += each.frameBytes();
        }
        first.head.setLong(0, length);
        first.head.setByte(Frames.LENGTH_BYTES, Frames.REQUESTS);
        first.head.setInt(Frames.LENGTH_BYTES + 1, batch.size());
        first.head.setInt(Frames.LENGTH_BYTES + 5, padding);
        if (padding > 0) {
            write(worker, first.head.readRetainedSlice(Frames.REQUESTS_HEAD_BYTES));
            write(worker, ZEROS.slice(0, padding));
        }
        for (Invocation each : batch) {
            if (each != first) {
                each.head.skipBytes(Frames.REQUESTS_HEAD_BYTES);
            }
            write(worker, each.head);
            each.head = null;
            if (each.body != null) {
                write(worker, each.body);
                each.body = null;
            }
        }
        worker.flush();
    }

    /** What must come before it so that a large body begins where its worker wants it. */
    private int padding() {
        boolean isLarge = body != null && body.readableBytes() >= Frames.LARGE_BODY_BYTES;
        return isLarge ? Math.max(0, Frames.LARGE_BODY_AT - head.readableBytes()) : 0;
    }

    private static void write(Channel worker, ByteBuf piece) {
        worker.write(piece, worker.voidPromise());
    }

    /** Reads this request's part of an answer, and sends it to the client. */
    void answer(ByteBuf in) {
        HttpResponseStatus status = Frames.readStatus(in);
        String contentType = Frames.readText(in);
        HttpHeaders headers = Responses.headers(id);
        if (!contentType.isEmpty()) {
            headers.set(Responses.CONTENT_TYPE, contentType);
        }
        int end = in.readInt() + in.readerIndex();
        while (in.readerIndex() < end) {
            Responses.pass(headers, Frames.readText(in), Frames.readText(in));
        }
        Responses.send(channel, status, headers, readContent(in));
    }

    /**
     * The memory of a frame is held by whoever takes his time with a part of it: a small part has
     * memory of its own.
     */
    private static ByteBuf readContent(ByteBuf in) {
        int length = Frames.readLength(in);
        if (length < in.capacity() / 2 - SLACK_BYTES) {
            try {
                return in.readBytes(length);
            } catch (OutOfMemoryError e) {
                // Of the memory outside the heap; without a copy it takes none.
            }
        }
        return in.readRetainedSlice(length);
    }

    /** Answers in place of a worker. */
    void fail(RequestException reason) {
        fail(reason.status, reason.type, reason.getMessage());
    }

    void fail(HttpResponseStatus status, String type, String message) {
        release();
        Responses.sendError(channel, status, type, message, id);
    }

    void release() {
        if (head != null) {
            head.release();
            head = null;
        }
        if (body != null) {
            body.release();
            body = null;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.handler.codec.CorruptedFrameException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.nio.charset.StandardCharsets;

/**
 * The frames between the front end and a worker; {@code ipc/wire.py} is the other side.
 *
 * <p>A frame is the number of bytes that follow (64 bits), a byte that says what it is, and its
 * fields. All integers are big-endian and signed, of 32 bits where nothing else is said; text is the
 * number of its bytes and as many bytes of UTF-8. Each side sends only after the other has: LOAD,
 * its answer, and then REQUESTS and their answer, again and again.
 */
final class Frames {

    /**
     * name, path, batch size, handler, GPU (-1 for none), and of a worker that replaces another in a
     * reload the number of that reload and how many workers it has (0 and 0 of all others).
     */
    static final byte LOAD = 'L';
    /** count, padding (as text), and each request as {@link Invocation} writes it. */
    static final byte REQUESTS = 'R';
    /** The worker's pid. */
    static final byte LOADED = 'L';
    /** HTTP status, sentence, error id, traceback (empty unless it may be shown): the model is not loaded. */
    static final byte FAILED = 'F';
    /** count, and for each request its status, content type, headers and body. */
    static final byte ANSWERS = 'A';

    static final int LENGTH_BYTES = 8;
    /** The beginning of REQUESTS: its length, its kind, the count, and the length of the padding. */
    static final int REQUESTS_HEAD_BYTES = LENGTH_BYTES + 1 + 4 + 4;

    /** A large body begins there, so that the worker can have it written to where it stays. */
    static final int LARGE_BODY_AT = 1 << 16;

    static final int LARGE_BODY_BYTES = 1 << 20;

    /** What an answer may hold beside its body: headers and a type, which the worker limits (answers.py). */
    static final int HEADROOM_BYTES = 1 << 16;

    private static final int LEAST_STATUS = 200;
    private static final int MOST_STATUS = 999;

    private Frames() {}

    static void writeLoad(
            ByteBuf out,
            String name,
            String path,
            int batchSize,
            String handler,
            int gpu,
            Generation generation) {
        out.writeLong(0);
        out.writeByte(LOAD);
        writeText(out, name);
        writeText(out, path);
        out.writeInt(batchSize);
        writeText(out, handler);
        out.writeInt(gpu);
        out.writeInt(generation.number);
        out.writeInt(generation.size);
        out.setLong(0, out.writerIndex() - LENGTH_BYTES);
    }

    static void writeText(ByteBuf out, CharSequence text) {
        int at = out.writerIndex();
        out.writeInt(0);
        out.setInt(at, ByteBufUtil.writeUtf8(out, text));
    }

    /** Reads the status of an answer, which is none that something else follows. */
    static HttpResponseStatus readStatus(ByteBuf in) {
        int code = in.readInt();
        if (code < LEAST_STATUS || code > MOST_STATUS) {
            throw new CorruptedFrameException("an answer with the status " + code);
        }
        return HttpResponseStatus.valueOf(code);
    }

    static String readText(ByteBuf in) {
        return in.readCharSequence(readLength(in), StandardCharsets.UTF_8).toString();
    }

    /** Reads the length of a field that must be there whole. */
    static int readLength(ByteBuf in) {
        int length = in.readInt();
        if (length < 0 || length > in.readableBytes()) {
            throw new CorruptedFrameException("a field of " + length + " bytes in an answer");
        }
        return length;
    }

    static void checkLength(long length, long max) {
        if (length < 1 || length > max || length > Integer.MAX_VALUE - 64) {
            throw new CorruptedFrameException("an answer of " + length + " bytes");
        }
    }
}

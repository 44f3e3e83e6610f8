// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.handler.codec.http.DefaultHttpContent;
import io.netty.handler.codec.http.HttpConstants;
import io.netty.handler.codec.http.LastHttpContent;
import java.util.List;

/**
 * One body in the chunked coding (RFC 9112, section 7.1), as strict as the RFC allows.
 *
 * <p>Netty's own decoder (4.1.91, HttpObjectDecoder) lets a size overflow, takes a bare LF and any
 * bytes behind a chunk for a line's end, and makes an object of each chunk, however small. Two
 * readers who disagree about where a body ends can be made to disagree about what is a request.
 *
 * <p>The work is linear in the bytes: what lies in one piece of input comes out in one piece, except
 * for chunks that are large.
 */
final class ChunkedBody {

    /** Triton's limit. A client that sends a body in more has no reason to, but to cost something. */
    static final int MAX_CHUNKS = 65_536;

    /** What a chunk's line may have, its extension included, and so may each line of a trailer. */
    private static final int MAX_LINE_BYTES = 1024;

    private static final int MAX_TRAILER_BYTES = 8192;

    /** Below it, to copy a chunk costs less than to pass it on by itself. */
    private static final int SMALL_CHUNK_BYTES = 16 * 1024;

    /** More digits, even if they are zeros, are somebody's try to make two readers disagree. */
    private static final int MAX_SIZE_DIGITS = 16;

    private enum State {
        SIZE,
        DATA,
        DATA_END,
        TRAILER,
        ENDED
    }

    private State state = State.SIZE;
    private int chunks;
    /** Bytes of the chunk that have not come. */
    private int missing;

    private int trailerBytes;
    /** Small chunks of the piece of input that is being read. */
    private ByteBuf gathered;

    boolean isEnded() {
        return state == State.ENDED;
    }

    /**
     * Reads as far as the input goes, and adds what it holds of the body to {@code out}. The end of
     * the body is a {@link LastHttpContent}; trailers are read and dropped.
     */
    void decode(ByteBufAllocator allocator, ByteBuf in, List<Object> out)
            throws BadMessageException {
        try {
            while (state != State.ENDED && step(allocator, in, out)) {
                // It goes on as long as something could be read.
            }
            passOnGathered(out);
        } finally {
            release();
        }
        if (state == State.ENDED) {
            out.add(LastHttpContent.EMPTY_LAST_CONTENT);
        }
    }

    private boolean step(ByteBufAllocator allocator, ByteBuf in, List<Object> out)
            throws BadMessageException {
        switch (state) {
            case SIZE:
                return readSize(in);
            case DATA:
                return readData(allocator, in, out);
            case DATA_END:
                return readDataEnd(in);
            default:
                return readTrailer(in);
        }
    }

    private boolean readSize(ByteBuf in) throws BadMessageException {
        int length = lineLength(in);
        if (length < 0) {
            return false;
        }
        missing = size(in, in.readerIndex(), in.readerIndex() + length);
        in.skipBytes(length + 2);
        if (missing == 0) {
            state = State.TRAILER;
        } else if (++chunks > MAX_CHUNKS) {
            throw new BadMessageException(
                    "The body has more than "
                            + MAX_CHUNKS
                            + " chunks: send it in fewer, larger ones, or with a Content-Length.");
        } else {
            state = State.DATA;
        }
        return true;
    }

    private boolean readData(ByteBufAllocator allocator, ByteBuf in, List<Object> out) {
        int count = Math.min(missing, in.readableBytes());
        if (count == 0) {
            return false;
        }
        if (count >= SMALL_CHUNK_BYTES) {
            passOnGathered(out);
            out.add(new DefaultHttpContent(in.readRetainedSlice(count)));
        } else {
            if (gathered == null) {
                gathered = allocator.directBuffer(Math.max(count, 64));
            }
            gathered.writeBytes(in, count);
        }
        missing -= count;
        if (missing == 0) {
            state = State.DATA_END;
        }
        return true;
    }

    private boolean readDataEnd(ByteBuf in) throws BadMessageException {
        if (in.readableBytes() < 2) {
            return false;
        }
        if (in.readByte() != HttpConstants.CR || in.readByte() != HttpConstants.LF) {
            throw new BadMessageException("A chunk of the body is longer than its size says.");
        }
        state = State.SIZE;
        return true;
    }

    private boolean readTrailer(ByteBuf in) throws BadMessageException {
        int length = lineLength(in);
        if (length < 0) {
            return false;
        }
        in.skipBytes(length + 2);
        trailerBytes += length + 2;
        if (trailerBytes > MAX_TRAILER_BYTES) {
            throw new BadMessageException(
                    "The trailer of the body has more than " + MAX_TRAILER_BYTES + " bytes.");
        }
        if (length == 0) {
            state = State.ENDED;
        }
        return true;
    }

    /** The length of the next line without its CRLF; -1 where its end has not come. */
    private static int lineLength(ByteBuf in) throws BadMessageException {
        int start = in.readerIndex();
        int count = Math.min(in.readableBytes(), MAX_LINE_BYTES);
        int end = in.indexOf(start, start + count, HttpConstants.LF);
        if (end < 0) {
            if (count == MAX_LINE_BYTES) {
                throw new BadMessageException(
                        "A line between chunks of the body has more than "
                                + MAX_LINE_BYTES
                                + " bytes.");
            }
            return -1;
        }
        if (end == start || in.indexOf(start, end, HttpConstants.CR) != end - 1) {
            throw new BadMessageException(
                    "A line between chunks of the body does not end with one CR and LF.");
        }
        return end - 1 - start;
    }

    private static int size(ByteBuf in, int start, int end) throws BadMessageException {
        long value = 0;
        int at = start;
        while (at < end && digit(in.getByte(at)) >= 0) {
            value = value << 4 | digit(in.getByte(at));
            at++;
            if (at - start > MAX_SIZE_DIGITS || value > Integer.MAX_VALUE) {
                throw new BadMessageException("The size of a chunk is larger than 7fffffff.");
            }
        }
        if (at == start || at < end && !isExtension(in, at, end)) {
            throw new BadMessageException(
                    "The size of a chunk must be hexadecimal digits, and nothing else before the"
                            + " line's end or a semicolon.");
        }
        return (int) value;
    }

    private static int digit(byte character) {
        return character < 0 ? -1 : Character.digit((char) character, 16);
    }

    private static boolean isExtension(ByteBuf in, int start, int end) {
        int at = start;
        while (at < end && (in.getByte(at) == ' ' || in.getByte(at) == '\t')) {
            at++;
        }
        return at < end && in.getByte(at) == ';';
    }

    private void passOnGathered(List<Object> out) {
        if (gathered != null) {
            out.add(new DefaultHttpContent(gathered));
            gathered = null;
        }
    }

    private void release() {
        if (gathered != null) {
            gathered.release();
            gathered = null;
        }
    }
}

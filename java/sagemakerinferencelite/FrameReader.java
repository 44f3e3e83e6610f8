// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.handler.codec.CorruptedFrameException;

/**
 * The frames of a worker's connection, one after the other, each only when the one before it has
 * been answered.
 *
 * <p>A frame that comes in one piece is read where it lies. The memory for a large one is counted in
 * {@link Room} while it comes; where there is none for it, it is read off the connection all the
 * same, so that its worker can go on, and is not kept.
 */
final class FrameReader {

    /** What becomes of a frame. */
    interface Taker {
        /** Reads a whole frame, which stays the caller's. */
        void take(ByteBuf frame);

        /** There was no room for a frame of so many bytes. */
        void drop(byte kind, long bytes);
    }

    private final Taker taker;
    private final long maxLength;

    /** How many bytes of the length have come. */
    private int lengthBytes;

    private long length;
    /** How many bytes of what follows the length have come. */
    private long come;
    /** The frame; null where it is not kept. */
    private ByteBuf frame;
    /** Room that it takes. */
    private long held;

    private byte kind;

    FrameReader(Taker taker, long maxLength) {
        this.taker = taker;
        this.maxLength = maxLength;
    }

    /** Reads a piece, which stays the caller's. */
    void read(ByteBuf piece, ByteBufAllocator allocator) {
        if (lengthBytes == 0 && isWhole(piece)) {
            Frames.checkLength(piece.getLong(piece.readerIndex()), maxLength);
            taker.take(piece);
        } else {
            gather(piece, allocator);
        }
        if (piece.isReadable()) {
            throw new CorruptedFrameException("more follows than an answer");
        }
    }

    private static boolean isWhole(ByteBuf piece) {
        return piece.readableBytes() >= Frames.LENGTH_BYTES
                && piece.getLong(piece.readerIndex())
                        == piece.readableBytes() - Frames.LENGTH_BYTES;
    }

    private void gather(ByteBuf piece, ByteBufAllocator allocator) {
        if (lengthBytes < Frames.LENGTH_BYTES) {
            readLength(piece);
            if (lengthBytes < Frames.LENGTH_BYTES) {
                return;
            }
            Frames.checkLength(length, maxLength);
            begin(allocator);
        }
        readRest(piece);
        if (come == length) {
            end();
        }
    }

    private void readLength(ByteBuf piece) {
        while (lengthBytes < Frames.LENGTH_BYTES && piece.isReadable()) {
            length = length << 8 | piece.readUnsignedByte();
            lengthBytes++;
        }
    }

    private void begin(ByteBufAllocator allocator) {
        long needed = length > Room.SMALL_BYTES ? length : 0;
        if (needed == 0 || Room.takeForAnswer(needed)) {
            held = needed;
            try {
                frame = allocator.directBuffer((int) length + Frames.LENGTH_BYTES);
                frame.writeLong(length);
            } catch (OutOfMemoryError e) { // of the memory outside the heap
                freeRoom();
            }
        }
    }

    private void readRest(ByteBuf piece) {
        int count = (int) Math.min(length - come, piece.readableBytes());
        if (come == 0 && count > 0) {
            kind = piece.getByte(piece.readerIndex());
        }
        if (frame == null) {
            piece.skipBytes(count);
        } else {
            frame.writeBytes(piece, count);
        }
        come += count;
    }

    private void end() {
        ByteBuf whole = frame;
        long bytes = length;
        frame = null;
        lengthBytes = 0;
        length = 0;
        come = 0;
        try {
            if (whole == null) {
                taker.drop(kind, bytes);
            } else {
                taker.take(whole);
            }
        } finally {
            if (whole != null) {
                whole.release();
            }
            freeRoom();
        }
    }

    private void freeRoom() {
        Room.free(held);
        held = 0;
    }

    /** Lets go of what has come. */
    void close() {
        if (frame != null) {
            frame.release();
            frame = null;
        }
        freeRoom();
    }
}

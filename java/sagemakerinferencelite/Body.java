// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;

/**
 * The body of one request, as it comes.
 *
 * <p>What comes in large pieces stays where it was received. Small ones are copied together, so that
 * none holds the memory of a read by itself, and each byte is copied once. A body has at most {@link
 * #MOST_PIECES} pieces: a socket takes no more at once, and of what has more the transport would
 * make a copy (Netty: UnixChannelUtil).
 */
final class Body {

    private static final int MOST_PIECES = 1024;

    private static final int LEAST_LARGE_BYTES = 1 << 16;

    private final ByteBufAllocator allocator;
    /** A piece of that size is large: each other piece of a body may be. */
    private final int largeBytes;

    private CompositeByteBuf pieces;
    /** Where small pieces are copied to. */
    private ByteBuf tail;

    private long held;

    Body(ByteBufAllocator allocator, int maxBytes) {
        this.allocator = allocator;
        largeBytes = Math.max(LEAST_LARGE_BYTES, maxBytes / (MOST_PIECES / 2) + 1);
    }

    /** How much memory it holds. */
    long held() {
        return held + (tail == null ? 0 : tail.capacity());
    }

    /** Takes a piece in, which stays the caller's. */
    void add(ByteBuf piece) {
        if (piece.readableBytes() >= largeBytes && !isPartOfMuchMore(piece)) {
            seal();
            append(piece.retainedSlice());
        } else {
            while (piece.isReadable()) {
                copy(piece);
            }
        }
    }

    /** Whether to keep it is to keep more than twice the memory. */
    static boolean isPartOfMuchMore(ByteBuf piece) {
        ByteBuf whole = piece.unwrap();
        return whole != null && whole.capacity() / 2 > piece.readableBytes();
    }

    private void copy(ByteBuf piece) {
        if (tail == null) {
            tail = allocator.directBuffer(Math.min(piece.readableBytes(), largeBytes), largeBytes);
        }
        tail.writeBytes(piece, Math.min(piece.readableBytes(), tail.maxWritableBytes()));
        if (tail.maxWritableBytes() == 0) {
            seal();
        }
    }

    private void seal() {
        if (tail != null) {
            ByteBuf sealed = tail;
            tail = null;
            append(sealed);
        }
    }

    private void append(ByteBuf piece) {
        if (pieces == null) {
            pieces = allocator.compositeDirectBuffer(Integer.MAX_VALUE);
        }
        held += piece.capacity();
        pieces.addComponent(true, piece);
    }

    /** All of it, which is the caller's from now on. */
    ByteBuf whole() {
        if (pieces == null) {
            ByteBuf only = tail == null ? Unpooled.EMPTY_BUFFER : tail;
            tail = null;
            return only;
        }
        seal();
        ByteBuf all = pieces;
        pieces = null;
        return all;
    }

    void release() {
        whole().release();
    }
}

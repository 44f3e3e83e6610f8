// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.Unpooled;
import io.netty.channel.AdaptiveRecvByteBufAllocator;
import io.netty.channel.RecvByteBufAllocator;
import io.netty.util.UncheckedBooleanSupplier;

/**
 * Buffers to read a worker's connection into, of which there is one also when the memory outside the
 * heap is used up: Netty closes a connection whose reading finds none, and a worker would be lost
 * for what its clients do.
 */
final class SureReads extends AdaptiveRecvByteBufAllocator {

    private static final int RESERVE_BYTES = 4096;

    @Override
    @SuppressWarnings("deprecation") // Netty's own way to make one
    public Handle newHandle() {
        return new SureHandle(super.newHandle());
    }

    private final ByteBuf reserve = Unpooled.directBuffer(RESERVE_BYTES, RESERVE_BYTES);

    /** Lets go of the reserve. To be called when the connection is closed. */
    void end() {
        reserve.release();
    }

    private final class SureHandle extends RecvByteBufAllocator.DelegatingHandle
            implements RecvByteBufAllocator.ExtendedHandle {

        SureHandle(Handle handle) {
            super(handle);
        }

        @Override
        public ByteBuf allocate(ByteBufAllocator allocator) {
            try {
                return super.allocate(allocator);
            } catch (OutOfMemoryError e) {
                if (reserve.refCnt() > 1) {
                    throw e; // an answer that was read into it waits for its client
                }
                return reserve.retainedDuplicate().clear();
            }
        }

        @Override
        public boolean continueReading(UncheckedBooleanSupplier maybeMore) {
            return ((RecvByteBufAllocator.ExtendedHandle) delegate()).continueReading(maybeMore);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.channel.Channel;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.channel.epoll.EpollSocketChannel;
import java.util.concurrent.TimeUnit;

/**
 * How a client takes its answers: what of them waits for it in this process, counted in {@link
 * Room}, and since when it has taken nothing. An answer that goes out at once leaves no trace here.
 */
final class Taking {

    private final Channel channel;

    /** Bytes of large answers that wait, each counted from when it is written until it has gone out. */
    private long large;
    /** Bytes of everything else that waits, as they were counted last. */
    private long small;

    private long pending;
    private long progress;
    private long lastTakenNs;

    Taking(Channel channel) {
        this.channel = channel;
    }

    /** Counts a large answer, until {@link #gone}. */
    void come(long bytes) {
        large += bytes;
        Room.count(bytes);
    }

    void gone(long bytes) {
        large -= bytes;
        Room.free(bytes);
    }

    /** Whether something waits now. */
    boolean isWaiting() {
        ChannelOutboundBuffer buffer = channel.unsafe().outboundBuffer();
        return buffer != null && buffer.totalPendingWriteBytes() > 0;
    }

    /** Counts anew, and notes whether the client has taken something since it was called last. */
    void look(long nowNs) {
        ChannelOutboundBuffer buffer = channel.unsafe().outboundBuffer();
        long waits = buffer == null ? 0 : buffer.totalPendingWriteBytes();
        long done = buffer == null ? 0 : buffer.currentProgress();
        if (pending == 0 || waits != pending || done != progress) {
            lastTakenNs = nowNs;
        } else if (channel instanceof EpollSocketChannel) {
            lastTakenNs = Math.max(lastTakenNs, nowNs - sinceSentNs());
        }
        pending = waits;
        progress = done;
        countSmall(Math.max(0, waits - large));
    }

    /**
     * The kernel holds megabytes for a connection, and says that there is room for more when a third
     * of them has gone: a slow client takes long for that. But it sends whenever the client has room.
     */
    private long sinceSentNs() {
        return TimeUnit.MILLISECONDS.toNanos(
                ((EpollSocketChannel) channel).tcpInfo().lastDataSent());
    }

    long stalledNs(long nowNs) {
        return pending == 0 ? 0 : nowNs - lastTakenNs;
    }

    /** Nothing waits any more: the connection is closed. */
    void end() {
        pending = 0;
        countSmall(0);
    }

    private void countSmall(long bytes) {
        if (bytes != small) {
            Room.count(bytes - small);
            small = bytes;
        }
    }
}

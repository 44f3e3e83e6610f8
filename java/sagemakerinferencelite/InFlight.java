// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.channel.Channel;
import io.netty.channel.group.ChannelGroup;
import io.netty.channel.group.DefaultChannelGroup;
import io.netty.util.concurrent.GlobalEventExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * What all connections together have in flight, and the end of it.
 *
 * <p>A request is either admitted or refused, for good. Once {@link #drain} has begun none is
 * admitted any more, and when it returns every admitted request has been answered or lost its
 * client.
 */
final class InFlight {

    private static final long POLL_MS = 5;
    private static final long QUIET_MS = 200;
    private static final long LAST_WORDS_MS = 50;
    private static final long MAX_REFUSING_MS = 1000;

    private final AtomicInteger admitted = new AtomicInteger();
    private final AtomicInteger refused = new AtomicInteger();
    private final ChannelGroup listeners = new DefaultChannelGroup(GlobalEventExecutor.INSTANCE);
    private final ChannelGroup connections = new DefaultChannelGroup(GlobalEventExecutor.INSTANCE);
    private volatile boolean draining;
    private volatile long lastRefusalMs;

    void addListener(Channel listener) {
        listeners.add(listener);
    }

    void addConnection(Channel connection) {
        connections.add(connection);
    }

    boolean isDraining() {
        return draining;
    }

    /** Counts a request in, unless the drain has begun. Each one let in needs one {@link #end}. */
    boolean admit() {
        // Count first, look after: the drain sets its flag and then reads the count, so that a
        // request it did not see has seen the flag.
        admitted.incrementAndGet();
        if (draining) {
            admitted.decrementAndGet();
            return false;
        }
        return true;
    }

    void end(int requests) {
        admitted.addAndGet(-requests);
    }

    /** Notes a connection whose last request was refused, until it is closed. */
    void refusalBegun() {
        refused.incrementAndGet();
        lastRefusalMs = nowMs();
    }

    void refusalEnded() {
        refused.decrementAndGet();
    }

    /**
     * Waits for the admitted requests, however long they take, and refuses new ones meanwhile.
     *
     * <p>The listeners stay open, and idle connections too, until nobody has asked anything for a
     * while, but at most for a second more: a request that crosses the stop gets an answer, not a
     * reset. (Only what the kernel has not handed over when a listener closes is still reset.) It
     * polls because waking it would cost each request of the server's whole life.
     */
    void drain() throws InterruptedException {
        draining = true;
        while (admitted.get() > 0) {
            Thread.sleep(POLL_MS);
        }
        long deadlineMs = nowMs() + MAX_REFUSING_MS;
        awaitQuiet(QUIET_MS, deadlineMs - 3 * LAST_WORDS_MS);
        listeners.close().await(LAST_WORDS_MS);
        awaitQuiet(LAST_WORDS_MS, deadlineMs - LAST_WORDS_MS);
        // Not left to the end of the process: Java takes 0.3 s to halt when threads wait in native
        // code, as Netty's do, and what a client sends in that time would be reset.
        connections.close().await(LAST_WORDS_MS);
    }

    private void awaitQuiet(long quietMs, long deadlineMs) throws InterruptedException {
        long beginMs = nowMs();
        while (nowMs() < deadlineMs) {
            boolean calm = nowMs() - Math.max(beginMs, lastRefusalMs) >= quietMs;
            if (calm && refused.get() == 0) {
                return;
            }
            Thread.sleep(POLL_MS);
        }
    }

    private static long nowMs() {
        return TimeUnit.NANOSECONDS.toMillis(System.nanoTime());
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.util.concurrent.EventExecutor;
import io.netty.util.concurrent.FastThreadLocal;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Looks from time to time after those connections of an event loop whose clients keep something
 * waiting. There is one for each event loop, and it belongs to its thread.
 *
 * <p>A timer for each request would cost every one of them; here only those pay that do not come, or
 * go, in one piece.
 */
final class Watch implements Runnable {

    /** Whatever waits for its client. */
    interface Waiting {
        /** Does what is due; returns whether it still waits for its client. */
        boolean check(long nowNs);
    }

    /** How long a client may do nothing while something of its own waits for it. */
    static final long STALL_NS = seconds("stall_seconds", "30");

    /** The same, where others need what it holds: room is short, or the server is to stop. */
    static final long SHORT_STALL_NS = seconds("short_stall_seconds", "3");

    private static final Logger LOG = LoggerFactory.getLogger(Watch.class);

    private static final long PERIOD_MS = 500;

    private static final FastThreadLocal<Watch> OF_THIS_THREAD = new FastThreadLocal<>();

    private final EventExecutor loop;
    private final Set<Waiting> waiting = new LinkedHashSet<>();

    private Watch(EventExecutor loop) {
        this.loop = loop;
    }

    private static long seconds(String name, String fallback) {
        return TimeUnit.SECONDS.toNanos(Setting.number(name, fallback));
    }

    /** Has {@code connection} looked after until it waits no more. To be called on its event loop. */
    static void add(Waiting connection, EventExecutor loop) {
        Watch watch = OF_THIS_THREAD.get();
        if (watch == null) {
            watch = new Watch(loop);
            OF_THIS_THREAD.set(watch);
        }
        if (watch.waiting.isEmpty()) {
            watch.schedule();
        }
        watch.waiting.add(connection);
    }

    private void schedule() {
        loop.schedule(this, PERIOD_MS, TimeUnit.MILLISECONDS);
    }

    @Override
    public void run() {
        long nowNs = System.nanoTime();
        // A copy: what is closed here may have another one added.
        for (Waiting each : waiting.toArray(new Waiting[0])) {
            if (!stillWaits(each, nowNs)) {
                waiting.remove(each);
            }
        }
        if (!waiting.isEmpty()) {
            schedule();
        }
    }

    private static boolean stillWaits(Waiting connection, long nowNs) {
        try {
            return connection.check(nowNs);
        } catch (RuntimeException e) {
            // Of one connection; the others are still to be looked after.
            LOG.error("a connection cannot be looked after", e);
            return false;
        }
    }
}

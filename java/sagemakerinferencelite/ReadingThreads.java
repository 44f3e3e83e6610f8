// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.ModelArchive;
import io.netty.channel.EventLoopGroup;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * The threads that read models' files, which a disk may keep for ever: nobody else waits for one.
 *
 * <p>A thread that a disk holds cannot be interrupted. So a reading that is late is answered for, and
 * keeps its thread; the same files are not read again meanwhile; and once all threads are held so,
 * further loads are refused at once. That is 503 rather than the contract's 507 for a resource that
 * has run out: on 507 the platform unloads other models, and none of them would bring a thread back.
 */
final class ReadingThreads {

    private static final int MOST_THREADS = 16;
    private static final int MOST_WAITING = 1024;
    private static final long IDLE_SECONDS = 10;

    private final EventLoopGroup timers;
    private final int limitSeconds;
    private final ThreadPoolExecutor threads =
            new ThreadPoolExecutor(
                    MOST_THREADS,
                    MOST_THREADS,
                    IDLE_SECONDS,
                    TimeUnit.SECONDS,
                    new LinkedBlockingQueue<>(MOST_WAITING),
                    new DefaultThreadFactory("reading", true));
    private final Set<Reading> late = ConcurrentHashMap.newKeySet();

    ReadingThreads(EventLoopGroup timers, int limitSeconds) {
        this.timers = timers;
        this.limitSeconds = limitSeconds;
        threads.allowCoreThreadTimeOut(true);
    }

    /** Reads what a url names. What comes too late is cleaned away again. */
    CompletableFuture<ModelArchive> read(String url, Callable<ModelArchive> reader) {
        refuseWhereLate(url);
        Reading reading = new Reading(url, reader);
        execute(reading);
        Future<?> timer = timers.next().schedule(reading::beLate, limitSeconds, TimeUnit.SECONDS);
        reading.result.whenComplete((archive, error) -> timer.cancel(false));
        return reading.result;
    }

    /** Removes what was unpacked for a model that is gone. */
    void clean(ModelArchive archive) {
        try {
            threads.execute(archive::clean);
        } catch (RejectedExecutionException e) {
            // It goes with the server's directory.
        }
    }

    private void refuseWhereLate(String url) {
        if (late.stream().anyMatch(each -> each.url.equals(url))) {
            throw RequestException.unavailable(
                    "An earlier load still waits for the files at "
                            + url
                            + ", for more than "
                            + limitSeconds
                            + " seconds; they are not read again before that ends. Look at the"
                            + " disk or the network that they are on.");
        }
        if (late.size() >= MOST_THREADS) {
            throw RequestException.unavailable(
                    "All "
                            + MOST_THREADS
                            + " threads that read models' files have waited for more than "
                            + limitSeconds
                            + " seconds each. Look at the disk or the network that these are on: "
                            + late.stream().map(each -> each.url).collect(Collectors.joining(", ")));
        }
    }

    private void execute(Reading reading) {
        try {
            threads.execute(reading);
        } catch (RejectedExecutionException e) {
            throw RequestException.unavailable(
                    MOST_WAITING + " loads wait for their files to be read. Load this model later.");
        }
    }

    private final class Reading implements Runnable {

        private final String url;
        private final Callable<ModelArchive> reader;
        private final CompletableFuture<ModelArchive> result = new CompletableFuture<>();
        private boolean begun;
        private boolean ended;

        Reading(String url, Callable<ModelArchive> reader) {
            this.url = url;
            this.reader = reader;
        }

        @Override
        public void run() {
            if (!begin()) {
                return;
            }
            try {
                ModelArchive archive = reader.call();
                end();
                if (!result.complete(archive)) {
                    archive.clean();
                }
            } catch (Throwable t) {
                end();
                result.completeExceptionally(t);
            }
        }

        private synchronized boolean begin() {
            begun = !result.isDone();
            return begun;
        }

        private synchronized void end() {
            ended = true;
            late.remove(this);
        }

        void beLate() {
            String what = markLate() ? " could not be read within " : " waited for their turn for ";
            result.completeExceptionally(
                    RequestException.failure(
                            HttpResponseStatus.INTERNAL_SERVER_ERROR,
                            "The files at "
                                    + url
                                    + what
                                    + limitSeconds
                                    + " seconds (SAGEMAKER_STARTUP_TIMEOUT): the disk or the"
                                    + " network that they are on does not answer, or is too slow."));
        }

        /** Whether it had begun. */
        private synchronized boolean markLate() {
            if (begun && !ended) {
                late.add(this);
            }
            return begun;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.buffer.ByteBuf;
import io.netty.channel.EventLoop;
import io.netty.handler.codec.CorruptedFrameException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * One model's workers, and the requests that wait for them.
 *
 * <p>Requests come from the event loops of clients, answers from those of workers: all state is
 * guarded by this object, and nobody else's code runs while it is held.
 */
final class ModelWorkers {

    /** Whether a request was taken in. */
    enum Outcome {
        TAKEN,
        /** No worker is there, or more wait than may. */
        FULL,
        /** The model is about to be unloaded. */
        LEAVING
    }

    /** A batch that a worker has been given, to be sent when the lock is open again. */
    private static final class Assignment {
        private final Worker worker;
        private final List<Invocation> batch;

        Assignment(Worker worker, List<Invocation> batch) {
            this.worker = worker;
            this.batch = batch;
        }

        static void begin(Assignment assignment) {
            if (assignment != null) {
                assignment.worker.send(assignment.batch);
            }
        }
    }

    private final Model model;
    private final int capacity;

    private final List<Worker> workers = new ArrayList<>();
    /** Loaded, with nothing to do; the one that was busy last comes first: its memory is in the caches. */
    private final ArrayDeque<Worker> idle = new ArrayDeque<>();

    private final ArrayDeque<Invocation> queue = new ArrayDeque<>();
    /** Requests that have been taken in and not been answered. */
    private int unanswered;

    private boolean leaving;
    private boolean closed;
    /** A batch that is not full is waited for. */
    private boolean gathering;
    /** Completed when so many workers are loaded, or one cannot be. */
    private CompletableFuture<HttpResponseStatus> scaled;

    private int scaledTo;

    ModelWorkers(Model model, int capacity) {
        this.model = model;
        this.capacity = capacity;
    }

    boolean isOf(Model other) {
        return model == other;
    }

    // -- Workers --

    /** Has at least {@code least} workers and at most {@code most}. */
    CompletableFuture<HttpResponseStatus> scale(int least, int most, Supplier<Worker> maker) {
        CompletableFuture<HttpResponseStatus> before;
        CompletableFuture<HttpResponseStatus> future = new CompletableFuture<>();
        List<Worker> added = new ArrayList<>();
        List<Worker> removed = new ArrayList<>();
        boolean done;
        synchronized (this) {
            before = scaled;
            while (workers.size() < least) {
                Worker worker = maker.get();
                workers.add(worker);
                added.add(worker);
            }
            removeUntil(most, removed);
            scaled = future;
            scaledTo = least;
            done = runningCount() >= scaledTo;
        }
        if (before != null) {
            before.complete(HttpResponseStatus.OK); // nobody waits for it, or what it asked for has changed
        }
        removed.forEach(Worker::shutdown);
        added.forEach(Worker::connect);
        if (done) {
            future.complete(HttpResponseStatus.OK);
        }
        return future;
    }

    /** Removes workers that have nothing to do first; those that are busy go once they have answered. */
    private void removeUntil(int most, List<Worker> removed) {
        while (workers.size() > most && !idle.isEmpty()) {
            Worker worker = idle.removeLast();
            workers.remove(worker);
            removed.add(worker);
        }
        for (Iterator<Worker> each = workers.iterator(); workers.size() > most && each.hasNext(); ) {
            Worker worker = each.next();
            each.remove();
            if (worker.batch == null) {
                removed.add(worker);
            }
        }
    }

    synchronized List<WorkerThread> workers() {
        return new ArrayList<>(workers);
    }

    synchronized boolean isEmpty() {
        return workers.isEmpty();
    }

    synchronized int runningCount() {
        int count = 0;
        for (Worker worker : workers) {
            if (worker.isRunning()) {
                count++;
            }
        }
        return count;
    }

    synchronized void checkLimits(long nowNs) {
        for (Worker worker : workers) {
            worker.checkLimit(nowNs);
        }
    }

    void loaded(Worker worker) {
        CompletableFuture<HttpResponseStatus> future = null;
        synchronized (this) {
            if (scaled != null && runningCount() >= scaledTo) {
                future = scaled;
            }
        }
        makeIdle(worker);
        if (future != null) {
            future.complete(HttpResponseStatus.OK);
        }
    }

    void loadFailed(HttpResponseStatus status) {
        CompletableFuture<HttpResponseStatus> future;
        synchronized (this) {
            future = scaled;
        }
        if (future != null) {
            future.complete(status);
        }
    }

    /** The worker's connection has ended: nobody will answer what it was asked. */
    void lost(Worker worker, boolean wasLoaded) {
        List<Invocation> owed;
        boolean kept;
        synchronized (this) {
            idle.remove(worker);
            owed = worker.batch;
            worker.batch = null;
            kept = workers.contains(worker);
        }
        if (!kept) {
            worker.shutdown(); // one too many, that was busy when it was to go
        }
        if (owed != null) {
            fail(owed);
        }
        if (!wasLoaded) {
            loadFailed(HttpResponseStatus.INTERNAL_SERVER_ERROR);
        }
    }

    private void fail(List<Invocation> requests) {
        boolean isGone;
        synchronized (this) {
            unanswered -= requests.size();
            isGone = closed;
        }
        for (Invocation each : requests) {
            if (isGone) {
                each.fail(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "ServiceUnavailableException",
                        "The model was unloaded before it answered: " + model.getModelName());
            } else {
                each.fail(
                        HttpResponseStatus.INTERNAL_SERVER_ERROR,
                        "InternalServerException",
                        "Worker died.");
            }
        }
    }

    // -- Requests --

    Outcome submit(Invocation request) {
        Assignment next;
        synchronized (this) {
            if (leaving || closed) {
                return Outcome.LEAVING;
            }
            if (workers.isEmpty() || idle.isEmpty() && queue.size() >= capacity) {
                return Outcome.FULL;
            }
            unanswered++;
            queue.add(request);
            next = assign(request.loop());
        }
        Assignment.begin(next);
        return Outcome.TAKEN;
    }

    /** Forgets a request whose client has gone, unless a worker has it already. */
    void abandon(Invocation request) {
        synchronized (this) {
            if (!queue.remove(request)) {
                return;
            }
            unanswered--;
        }
        request.release();
    }

    void answered(Worker worker, ByteBuf frame) {
        int count = frame.readInt();
        for (Invocation each : goOn(worker, count)) {
            each.answer(frame);
        }
    }

    /** A worker has answered, and there was no room for it. */
    void dropped(Worker worker, long bytes) {
        List<Invocation> batch = worker.batch;
        for (Invocation each : goOn(worker, batch == null ? 0 : batch.size())) {
            each.fail(
                    HttpResponseStatus.SERVICE_UNAVAILABLE,
                    "ServiceUnavailableException",
                    "The server has no room for an answer of "
                            + bytes
                            + " bytes beside those that its clients do not take"
                            + " (-XX:MaxDirectMemorySize in SAGEMAKER_MODEL_SERVER_VMARGS).");
        }
    }

    /** Gives a worker that has answered so many requests what is next; returns those requests. */
    private List<Invocation> goOn(Worker worker, int count) {
        List<Invocation> batch;
        Assignment next;
        boolean kept;
        synchronized (this) {
            batch = worker.batch;
            if (batch == null || count != batch.size()) {
                throw new CorruptedFrameException("an answer to what was not asked");
            }
            worker.batch = null;
            unanswered -= batch.size();
            kept = workers.contains(worker);
            if (kept) {
                idle.addFirst(worker);
            }
            next = assign(worker.loop());
        }
        // The worker first: it computes while the answer is sent.
        Assignment.begin(next);
        if (!kept) {
            worker.shutdown();
        }
        return batch;
    }

    private void makeIdle(Worker worker) {
        Assignment next;
        synchronized (this) {
            if (workers.contains(worker)) {
                idle.addFirst(worker);
            }
            next = assign(worker.loop());
        }
        Assignment.begin(next);
    }

    /** Gives the next batch to a worker; null where there is no work, no worker, or not yet. */
    private Assignment assign(EventLoop near) {
        if (queue.isEmpty() || idle.isEmpty() || !isTime()) {
            return null;
        }
        Worker worker = takeIdle(near);
        int size = Math.min(queue.size(), Math.max(1, model.getBatchSize()));
        if (size == 1) {
            worker.batch = Collections.singletonList(queue.poll());
        } else {
            worker.batch = new ArrayList<>(size);
            for (int i = 0; i < size; i++) {
                worker.batch.add(queue.poll());
            }
        }
        return new Assignment(worker, worker.batch);
    }

    /** Whether the batch that is next is full, or has been waited for as long as it may. */
    private boolean isTime() {
        if (queue.size() >= model.getBatchSize()) {
            return true;
        }
        long waitedNs = System.nanoTime() - queue.peek().arrivedNs;
        long leftNs = TimeUnit.MILLISECONDS.toNanos(model.getMaxBatchDelay()) - waitedNs;
        if (leftNs <= 0) {
            return true;
        }
        if (!gathering) {
            gathering = true;
            EventLoop loop = idle.peek().loop();
            loop.schedule(() -> gathered(loop), leftNs, TimeUnit.NANOSECONDS);
        }
        return false;
    }

    private void gathered(EventLoop loop) {
        Assignment next;
        synchronized (this) {
            gathering = false;
            next = assign(loop);
            if (next != null && !queue.isEmpty() && !idle.isEmpty()) {
                loop.execute(() -> gathered(loop));
            }
        }
        Assignment.begin(next);
    }

    /** One on the same event loop, if there is one: it need not be woken up. */
    private Worker takeIdle(EventLoop near) {
        for (Iterator<Worker> each = idle.iterator(); each.hasNext(); ) {
            Worker worker = each.next();
            if (worker.loop() == near) {
                each.remove();
                return worker;
            }
        }
        return idle.poll();
    }

    // -- The end --

    /** Refuses further requests, until {@link #stay}. */
    synchronized void leave() {
        leaving = true;
    }

    synchronized void stay() {
        leaving = false;
    }

    synchronized int unanswered() {
        return unanswered;
    }

    /** Ends all workers. Whoever still waits is answered. */
    void close() {
        List<Worker> ended;
        List<Invocation> owed;
        synchronized (this) {
            closed = true;
            ended = new ArrayList<>(workers);
            owed = new ArrayList<>(queue);
            workers.clear();
            idle.clear();
            queue.clear();
        }
        // What a worker is busy with is answered when its connection has ended: see lost().
        ended.forEach(Worker::shutdown);
        fail(owed);
    }
}

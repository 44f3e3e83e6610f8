// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.buffer.ByteBuf;
import io.netty.channel.EventLoop;
import io.netty.handler.codec.CorruptedFrameException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * One model's workers, and the requests that wait for them.
 *
 * <p>Requests come from the event loops of clients, answers from those of workers: all state is
 * guarded by this object, and nobody else's code runs while it is held.
 */
final class WorkerPool {

    /** Whether a request was taken in. */
    enum Outcome {
        TAKEN,
        /** More wait than may. */
        FULL,
        /** There is none, or all have failed too often. */
        NO_WORKER,
        /** The model is about to be unloaded. */
        DRAINING
    }

    private static final RequestException DIED =
            RequestException.failure(HttpResponseStatus.INTERNAL_SERVER_ERROR, "Worker died.");
    static final RequestException NO_WORKER =
            RequestException.unavailable(
                    "No worker of the model is there to answer. If its worker has failed again and"
                            + " again, the log says why.");

    /** A batch that a worker has been given, to be sent when the lock is open again. */
    private static final class Assignment {
        private final WorkerConnection worker;
        private final List<Invocation> batch;

        Assignment(WorkerConnection worker, List<Invocation> batch) {
            this.worker = worker;
            this.batch = batch;
        }

        static void begin(Assignment assignment) {
            if (assignment != null) {
                assignment.worker.send(assignment.batch);
            }
        }
    }

    /** Who waits for a number of workers. */
    private static final class Scaling {
        private final int wanted;
        /** Ends with whether they are loaded: it may be that others have been asked for meanwhile. */
        private final CompletableFuture<Boolean> done = new CompletableFuture<>();

        Scaling(int wanted) {
            this.wanted = wanted;
        }
    }

    /** New workers, which are not asked anything before all of them have loaded the model. */
    private static final class Reload {
        private final List<WorkerConnection> fresh = new ArrayList<>();
        private final Set<WorkerConnection> loading = new HashSet<>();
        private final CompletableFuture<Void> done = new CompletableFuture<>();
    }

    private final Model model;
    private final WorkerPools all;
    private final int capacity;

    /**
     * OPEN --beginDrain--> DRAINING --close--> CLOSED, or OPEN --close--> CLOSED where a load has
     * failed. Requests are taken while it is OPEN; those taken before are answered while it is
     * DRAINING; when it is CLOSED whoever still waits is refused.
     */
    private enum Phase {
        OPEN,
        DRAINING,
        CLOSED
    }

    private final List<WorkerConnection> workers = new ArrayList<>();
    /** Loaded, with nothing to do; the one that was busy last comes first: its memory is in the caches. */
    private final ArrayDeque<WorkerConnection> idle = new ArrayDeque<>();
    /** Those that have failed so often that they are not connected again at once. */
    private final Set<WorkerConnection> resting = new HashSet<>();

    private final ArrayDeque<Invocation> queue = new ArrayDeque<>();
    /** Requests that have been taken in and not been answered. */
    private int unanswered;

    private Phase phase = Phase.OPEN;
    /** Ends when nothing is unanswered; null unless a drain has begun. */
    private CompletableFuture<Void> whenIdle;

    private final CompletableFuture<Void> gone = new CompletableFuture<>();
    /** A batch that is not full is waited for. */
    private boolean batchTimerArmed;

    private final List<Scaling> scalings = new ArrayList<>();

    /** Null where none is under way. */
    private Reload reload;

    private int reloads;

    WorkerPool(Model model, WorkerPools all, int capacity) {
        this.model = model;
        this.all = all;
        this.capacity = capacity;
    }

    Model model() {
        return model;
    }

    String name() {
        return model.getModelName();
    }

    ModelArchive archive() {
        return model.getModelArchive();
    }

    // -- Workers --

    /**
     * Has at least {@code least} workers and at most {@code most}. Ends with true once so many are
     * loaded, with false where fewer have been asked for since, with an exception where a worker
     * cannot be had or cannot load the model.
     */
    CompletableFuture<Boolean> scale(int least, int most) {
        Scaling scaling = new Scaling(least);
        try {
            rescale(scaling, most).carryOut();
            endReached();
        } catch (RequestException e) {
            scaling.done.completeExceptionally(e);
        }
        return scaling.done;
    }

    private synchronized Rescaling rescale(Scaling scaling, int most) {
        refuseUnlessOpen();
        Rescaling rescaling = new Rescaling();
        add(scaling.wanted - workers.size(), rescaling.added);
        removeUntil(most, rescaling.removed);
        model.setMinWorkers(scaling.wanted);
        model.setMaxWorkers(most);
        rescaling.outdated = takeScalings(each -> each.wanted > most);
        rescaling.unserved = workers.isEmpty() ? takeQueue() : Collections.emptyList();
        scalings.add(scaling);
        return rescaling;
    }

    /** What follows from another number of workers, to be done when the lock is open again. */
    private final class Rescaling {
        private final List<WorkerConnection> added = new ArrayList<>();
        private final List<WorkerConnection> removed = new ArrayList<>();
        private List<Scaling> outdated;
        private List<Invocation> unserved;

        void carryOut() {
            outdated.forEach(each -> each.done.complete(false));
            removed.forEach(WorkerConnection::shutdown);
            added.forEach(WorkerConnection::connect);
            fail(unserved, NO_WORKER);
        }
    }

    private void refuseUnlessOpen() {
        if (phase != Phase.OPEN) {
            throw RequestException.conflict("Model " + name() + " is being unloaded.");
        }
    }

    private void add(int count, List<WorkerConnection> added) {
        if (count > 0) {
            all.reserve(count);
            for (int i = 0; i < count; i++) {
                added.add(all.newWorker(model, this, Generation.FIRST));
            }
            workers.addAll(added);
        }
    }

    private List<Scaling> takeScalings(Predicate<Scaling> which) {
        List<Scaling> taken = scalings.stream().filter(which).collect(Collectors.toList());
        scalings.removeAll(taken);
        return taken;
    }

    /** Ends the waiting of those who have what they asked for. */
    private void endReached() {
        List<Scaling> reached;
        synchronized (this) {
            if (scalings.isEmpty()) {
                return;
            }
            int running = runningCount();
            reached = takeScalings(each -> running >= each.wanted);
        }
        reached.forEach(each -> each.done.complete(true));
    }

    /** Removes workers that have nothing to do first; those that are busy go once they have answered. */
    private void removeUntil(int most, List<WorkerConnection> removed) {
        int before = workers.size();
        while (workers.size() > most && !idle.isEmpty()) {
            WorkerConnection worker = idle.removeLast();
            workers.remove(worker);
            removed.add(worker);
        }
        for (Iterator<WorkerConnection> each = workers.iterator(); workers.size() > most && each.hasNext(); ) {
            WorkerConnection worker = each.next();
            each.remove();
            resting.remove(worker);
            if (worker.batch == null) {
                removed.add(worker);
            }
        }
        all.free(before - workers.size());
    }

    // -- Reload --

    /**
     * Replaces all workers by as many new ones, which load the model as it is now. Ends once these
     * have taken over; the others go when they have answered. Ends with an exception where one of the
     * new ones cannot load the model: then the others go on.
     */
    CompletableFuture<Void> reload() {
        Reload begun;
        try {
            begun = beginReload();
        } catch (RequestException e) {
            CompletableFuture<Void> refused = new CompletableFuture<>();
            refused.completeExceptionally(e);
            return refused;
        }
        begun.fresh.forEach(WorkerConnection::connect);
        return begun.done;
    }

    private synchronized Reload beginReload() {
        refuseUnlessOpen();
        if (reload != null) {
            throw RequestException.conflict("Model " + name() + " is being reloaded.");
        }
        Reload begun = new Reload();
        if (workers.isEmpty()) {
            begun.done.complete(null);
            return begun;
        }
        all.reserve(workers.size());
        Generation generation = new Generation(++reloads, workers.size());
        for (int i = 0; i < generation.size; i++) {
            begun.fresh.add(all.newWorker(model, this, generation));
        }
        begun.loading.addAll(begun.fresh);
        reload = begun;
        return begun;
    }

    /** Whether it is a new worker of a reload, which then goes on. */
    private boolean isReloaded(WorkerConnection worker) {
        List<WorkerConnection> ended = new ArrayList<>();
        List<Assignment> next = new ArrayList<>();
        Reload complete = null;
        boolean isOutOfBounds = false;
        synchronized (this) {
            if (reload == null || !reload.fresh.contains(worker)) {
                return false;
            }
            reload.loading.remove(worker);
            if (reload.loading.isEmpty()) {
                complete = reload;
                takeOver(ended, next);
                isOutOfBounds =
                        workers.size() < model.getMinWorkers()
                                || workers.size() > model.getMaxWorkers();
            }
        }
        if (complete != null) {
            next.forEach(Assignment::begin);
            ended.forEach(WorkerConnection::shutdown);
            complete.done.complete(null);
            if (isOutOfBounds) {
                scale(model.getMinWorkers(), model.getMaxWorkers()); // which was asked for meanwhile
            }
            endReached();
        }
        return true;
    }

    private void takeOver(List<WorkerConnection> ended, List<Assignment> next) {
        for (WorkerConnection each : workers) {
            // One that is busy ends when it has answered: see goOn().
            if (each.batch == null) {
                ended.add(each);
            }
        }
        all.free(workers.size());
        workers.clear();
        idle.clear();
        resting.clear();
        workers.addAll(reload.fresh);
        idle.addAll(reload.fresh);
        reload = null;
        Assignment assignment = assign(workers.get(0).loop());
        while (assignment != null) {
            next.add(assignment);
            assignment = assign(assignment.worker.loop());
        }
    }

    /** Whether the worker is of a reload, which has failed then. */
    private boolean failsReload(WorkerConnection worker, RequestException reason) {
        Reload failed;
        synchronized (this) {
            if (reload == null || !reload.fresh.contains(worker)) {
                return false;
            }
            failed = takeReload();
        }
        end(failed, reason);
        return true;
    }

    private Reload takeReload() {
        Reload taken = reload;
        reload = null;
        if (taken != null) {
            all.free(taken.fresh.size());
        }
        return taken;
    }

    private static void end(Reload failed, RequestException reason) {
        if (failed != null) {
            failed.fresh.forEach(WorkerConnection::shutdown);
            failed.done.completeExceptionally(reason);
        }
    }

    synchronized List<WorkerThread> workers() {
        return new ArrayList<>(workers);
    }

    private List<Invocation> takeQueue() {
        List<Invocation> taken = new ArrayList<>(queue);
        queue.clear();
        return taken;
    }

    synchronized boolean isEmpty() {
        return workers.isEmpty();
    }

    synchronized int runningCount() {
        int count = 0;
        for (WorkerConnection worker : workers) {
            if (worker.isRunning()) {
                count++;
            }
        }
        return count;
    }

    void checkLimits(long nowNs) {
        List<WorkerConnection> all;
        synchronized (this) {
            all = new ArrayList<>(workers);
        }
        all.forEach(each -> each.checkLimit(nowNs));
    }

    void loaded(WorkerConnection worker) {
        if (!isReloaded(worker)) {
            makeIdle(worker);
            endReached();
        }
    }

    void loadFailed(WorkerConnection worker, RequestException reason) {
        if (failsReload(worker, reason)) {
            return;
        }
        List<Scaling> failed;
        synchronized (this) {
            failed = takeScalings(each -> true);
        }
        failed.forEach(each -> each.done.completeExceptionally(reason));
    }

    /** The worker is not connected again for a while. Where all are so, nobody is kept waiting. */
    void rests(WorkerConnection worker) {
        List<Invocation> unserved = Collections.emptyList();
        synchronized (this) {
            if (workers.contains(worker)) {
                resting.add(worker);
                unserved = resting.size() == workers.size() ? takeQueue() : unserved;
            }
        }
        fail(unserved, NO_WORKER);
    }

    synchronized void restsNoLonger(WorkerConnection worker) {
        resting.remove(worker);
    }

    /** The worker's connection has ended: nobody will answer what it was asked. */
    void lost(WorkerConnection worker, boolean failedToLoad, String why) {
        RequestException whyLost =
                RequestException.failure(
                        HttpResponseStatus.INTERNAL_SERVER_ERROR,
                        "A worker was lost while it loaded the model: " + why);
        if (failsReload(worker, whyLost)) {
            return;
        }
        List<Invocation> unserved;
        boolean kept;
        synchronized (this) {
            idle.remove(worker);
            unserved = worker.batch;
            worker.batch = null;
            kept = workers.contains(worker);
        }
        if (!kept) {
            worker.shutdown(); // one too many, that was busy when it was to go
        }
        if (unserved != null) {
            fail(unserved, DIED);
        }
        if (failedToLoad) {
            loadFailed(worker, whyLost);
        }
    }

    private void fail(List<Invocation> requests, RequestException reason) {
        CompletableFuture<Void> answeredAll;
        RequestException told;
        synchronized (this) {
            unanswered -= requests.size();
            answeredAll = drainedIfIdle();
            told = phase == Phase.CLOSED ? unloaded() : reason;
        }
        for (Invocation each : requests) {
            each.fail(told);
        }
        endDrain(answeredAll);
    }

    private RequestException unloaded() {
        return RequestException.unavailable(
                "The model was unloaded before it answered: " + name());
    }

    // -- Requests --

    Outcome submit(Invocation request) {
        Assignment next;
        synchronized (this) {
            if (phase != Phase.OPEN) {
                return Outcome.DRAINING;
            }
            if (resting.size() == workers.size()) {
                return Outcome.NO_WORKER;
            }
            if (idle.isEmpty() && queue.size() >= capacity) {
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
        CompletableFuture<Void> answeredAll;
        synchronized (this) {
            if (!queue.remove(request)) {
                return;
            }
            unanswered--;
            answeredAll = drainedIfIdle();
        }
        request.release();
        endDrain(answeredAll);
    }

    void answered(WorkerConnection worker, ByteBuf frame) {
        goOn(worker, frame.readInt(), each -> each.answer(frame));
    }

    /** A worker has answered, and there was no room for it. */
    void dropped(WorkerConnection worker, long bytes) {
        RequestException reason =
                RequestException.unavailable(
                        "The server has no room for an answer of "
                                + bytes
                                + " bytes beside those that its clients do not take"
                                + " (-XX:MaxDirectMemorySize in SAGEMAKER_MODEL_SERVER_VMARGS).");
        List<Invocation> batch = worker.batch;
        goOn(worker, batch == null ? 0 : batch.size(), each -> each.fail(reason));
    }

    /** Gives a worker that has answered so many requests what is next, and replies to them. */
    private void goOn(WorkerConnection worker, int count, Consumer<Invocation> reply) {
        List<Invocation> batch;
        Assignment next;
        CompletableFuture<Void> answeredAll;
        boolean kept;
        synchronized (this) {
            batch = worker.batch;
            if (batch == null || count != batch.size()) {
                throw new CorruptedFrameException("an answer to what was not asked");
            }
            worker.batch = null;
            unanswered -= batch.size();
            answeredAll = drainedIfIdle();
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
        try {
            reply(batch, reply);
        } finally {
            endDrain(answeredAll);
        }
    }

    /** Where one cannot be answered, by a frame that no worker of ours writes, nor can those behind it. */
    private static void reply(List<Invocation> batch, Consumer<Invocation> reply) {
        int answered = 0;
        try {
            for (Invocation each : batch) {
                reply.accept(each);
                answered++;
            }
        } catch (Throwable t) {
            for (Invocation each : batch.subList(answered, batch.size())) {
                each.fail(DIED);
            }
            throw t;
        }
    }

    private void makeIdle(WorkerConnection worker) {
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
        WorkerConnection worker = takeIdle(near);
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
        if (!batchTimerArmed) {
            batchTimerArmed = true;
            EventLoop loop = idle.peek().loop();
            loop.schedule(() -> batchTimerFired(loop), leftNs, TimeUnit.NANOSECONDS);
        }
        return false;
    }

    private void batchTimerFired(EventLoop loop) {
        Assignment next;
        synchronized (this) {
            batchTimerArmed = false;
            next = assign(loop);
            if (next != null && !queue.isEmpty() && !idle.isEmpty()) {
                loop.execute(() -> batchTimerFired(loop));
            }
        }
        Assignment.begin(next);
    }

    /** One on the same event loop, if there is one: it need not be woken up. */
    private WorkerConnection takeIdle(EventLoop near) {
        for (Iterator<WorkerConnection> each = idle.iterator(); each.hasNext(); ) {
            WorkerConnection worker = each.next();
            if (worker.loop() == near) {
                each.remove();
                return worker;
            }
        }
        return idle.poll();
    }

    // -- The end --

    /**
     * Refuses further requests. Returns false where that has been done already.
     *
     * @param whenIdle ended when nothing is unanswered
     */
    boolean beginDrain(CompletableFuture<Void> whenIdle) {
        CompletableFuture<Void> answeredAll;
        synchronized (this) {
            if (phase != Phase.OPEN) {
                return false;
            }
            phase = Phase.DRAINING;
            this.whenIdle = whenIdle;
            answeredAll = drainedIfIdle();
        }
        endDrain(answeredAll);
        return true;
    }

    private CompletableFuture<Void> drainedIfIdle() {
        return unanswered == 0 ? whenIdle : null;
    }

    /** Not while this object is held: it unloads the model. */
    private static void endDrain(CompletableFuture<Void> answeredAll) {
        if (answeredAll != null) {
            answeredAll.complete(null);
        }
    }

    /** Ends when the model is gone, and its name is free. */
    CompletableFuture<Void> gone() {
        return gone;
    }

    /** Why another model cannot have the name. */
    synchronized RequestException nameIsTaken() {
        return RequestException.conflict(
                whenIdle == null
                        ? "The model "
                                + name()
                                + (runningCount() > 0 ? " is loaded" : " is loading, or waits for workers,")
                                + " already: to load it anew, DELETE "
                                + ModelName.path(name())
                                + " comes first."
                        : "Model "
                                + name()
                                + " is being unloaded. It can be loaded again once its DELETE has"
                                + " been answered.");
    }

    /** Ends all workers. Whoever still waits is answered. Called again, it does nothing. */
    void close() {
        List<WorkerConnection> ended;
        List<Invocation> unserved;
        List<Scaling> unfinished;
        Reload interrupted;
        synchronized (this) {
            phase = Phase.CLOSED;
            interrupted = takeReload();
            // Now: the end of a worker's connection would give them another reason.
            unfinished = takeScalings(each -> true);
            ended = new ArrayList<>(workers);
            unserved = takeQueue();
            all.free(workers.size());
            workers.clear();
            idle.clear();
            resting.clear();
        }
        // What a worker is busy with is answered when its connection has ended: see lost().
        ended.forEach(WorkerConnection::shutdown);
        fail(unserved, unloaded());
        RequestException unloaded =
                RequestException.conflict(
                        "Model " + name() + " was unloaded by another request while it loaded.");
        unfinished.forEach(each -> each.done.completeExceptionally(unloaded));
        end(interrupted, unloaded);
        gone.complete(null);
    }
}

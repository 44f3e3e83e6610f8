// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkLoadManager;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.channel.EventLoopGroup;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.net.SocketAddress;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The workers of all models, in place of MMS's own.
 *
 * <p>MMS starts a Python process for each model and keeps seven threads for it, hands each request
 * from thread to thread five times, and loses requests when a model is unloaded. Here a worker is a
 * connection to the zygote, which forks a process for it (zygote/zygote.py), and an event loop does
 * the rest. It is for {@link Models} to load and to unload.
 */
final class WorkerPools extends WorkLoadManager {

    private static final long LIMIT_CHECK_SECONDS = 1;

    /** How many models' names an answer has. */
    private static final int MOST_NAMED = 10;

    private static final String BOUND = " (each takes open files, which ulimit -n limits).";

    private final ConcurrentMap<String, WorkerPool> models = new ConcurrentHashMap<>();
    private final ConfigManager config;
    private final EventLoopGroup loops;
    private final SocketAddress zygote;
    private final int mostWorkers = Setting.number("max_workers", "16384");
    private final boolean multiModel = Boolean.parseBoolean(Setting.required("multi_model"));
    private final AtomicInteger live = new AtomicInteger();
    private final AtomicInteger count = new AtomicInteger();

    WorkerPools(ConfigManager config, EventLoopGroup loops, SocketAddress zygote) {
        super(config, loops);
        this.config = config;
        this.loops = loops;
        this.zygote = zygote;
        loops.next()
                .scheduleWithFixedDelay(
                        this::checkLimits,
                        LIMIT_CHECK_SECONDS,
                        LIMIT_CHECK_SECONDS,
                        TimeUnit.SECONDS);
    }

    /** The workers of a model; null where it has none and never had. */
    WorkerPool of(String modelName) {
        return models.get(modelName);
    }

    private void checkLimits() {
        long nowNs = System.nanoTime();
        for (WorkerPool each : models.values()) {
            each.checkLimits(nowNs);
        }
    }

    /** All models, in the order of their names. */
    List<WorkerPool> sorted() {
        List<WorkerPool> all = new ArrayList<>(models.values());
        all.sort(Comparator.comparing(WorkerPool::name));
        return all;
    }

    // -- Which models there are: as this map says, which MMS's follows --

    void refuseIfTaken(String modelName) {
        WorkerPool there = models.get(modelName);
        if (there != null) {
            throw there.nameIsTaken();
        }
    }

    /** Why a model of that name is not asked, listed or unloaded; with the names of those that are there. */
    RequestException unknown(String name) {
        return multiModel
                ? RequestException.notFound(
                        "Model not found: "
                                + Parameters.shown(name, ModelName.MOST_CHARACTERS)
                                + ". "
                                + whichAreThere())
                : RequestException.oneModel();
    }

    private String whichAreThere() {
        NavigableSet<String> first = new TreeSet<>();
        int count = 0;
        for (String each : models.keySet()) {
            count++;
            first.add(each);
            if (first.size() > MOST_NAMED) {
                first.pollLast();
            }
        }
        if (count == 0) {
            return "No model is loaded.";
        }
        String more = count > MOST_NAMED ? ", ... and " + (count - MOST_NAMED) + " more" : "";
        return (count == 1 ? "The only model is " : "The models are ")
                + String.join(", ", first)
                + more
                + ".";
    }

    /** Registers a model, without workers. */
    synchronized WorkerPool register(Model model) {
        WorkerPool made = new WorkerPool(model, this, config.getJobQueueSize());
        WorkerPool there = models.putIfAbsent(made.name(), made);
        if (there != null) {
            throw there.nameIsTaken();
        }
        ModelManager.getInstance().getModels().put(made.name(), model);
        return made;
    }

    /** Forgets a model, if it is there still, and ends its workers. Its name is free after that. */
    void remove(WorkerPool gone) {
        unregister(gone);
        gone.close();
    }

    private synchronized void unregister(WorkerPool gone) {
        if (models.remove(gone.name(), gone)) {
            ModelManager manager = ModelManager.getInstance();
            manager.getModels().remove(gone.name());
            manager.getStartupModels().remove(gone.name());
        }
    }

    // -- How many workers there are: without an end to them the machine's processes and files would end --

    /** Sets so many workers aside for a model; throws where there would be too many. */
    void reserve(int wanted) {
        if (wanted > mostWorkers) {
            // Not 507, on which the platform would unload every other model in vain.
            throw RequestException.badRequest(
                    wanted + " more workers are asked for; the server may have " + mostWorkers + BOUND);
        }
        int now = live.addAndGet(wanted);
        if (now > mostWorkers) {
            live.addAndGet(-wanted);
            throw RequestException.failure(
                    HttpResponseStatus.INSUFFICIENT_STORAGE,
                    wanted
                            + " more workers are asked for; the server has "
                            + (now - wanted)
                            + ", and may have "
                            + mostWorkers
                            + BOUND);
        }
    }

    void free(int workers) {
        live.addAndGet(-workers);
    }

    WorkerConnection newWorker(Model model, WorkerPool owner, Generation generation) {
        int number = count.getAndIncrement();
        int gpus = config.getNumberOfGpu();
        return new WorkerConnection(
                model, owner, loops.next(), zygote, gpus > 0 ? number % gpus : -1, number, generation);
    }

    /** MMS's ModelManager would scale and unload by it; {@link Models} does both in its place. */
    @Override
    public CompletableFuture<HttpResponseStatus> modelChanged(Model model) {
        throw new UnsupportedOperationException("models are scaled and unloaded by Models");
    }

    /** MMS waits here for a model's Python process, of which there is none. */
    @Override
    public void addServerThread(Model model, CompletableFuture<HttpResponseStatus> future) {
        future.complete(HttpResponseStatus.OK);
    }

    @Override
    public List<WorkerThread> getWorkers(String modelName) {
        WorkerPool workers = models.get(modelName);
        return workers == null ? Collections.emptyList() : workers.workers();
    }

    /** For MMS's metrics of processes, which are not collected. */
    @Override
    public Map<Integer, WorkerThread> getWorkers() {
        return Collections.emptyMap();
    }

    @Override
    public boolean hasNoWorker(String modelName) {
        WorkerPool workers = models.get(modelName);
        return workers == null || workers.isEmpty();
    }

    @Override
    public int getNumRunningWorkers(String modelName) {
        WorkerPool workers = models.get(modelName);
        return workers == null ? 0 : workers.runningCount();
    }
}

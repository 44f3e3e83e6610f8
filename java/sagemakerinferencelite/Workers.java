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
import java.util.Collections;
import java.util.List;
import java.util.Map;
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
 * connection to the zygote, which forks a process for it (worker/zygote.py), and an event loop does
 * the rest. MMS goes on to register, list and unregister models (ModelManager.java).
 */
final class Workers extends WorkLoadManager {

    private static final long LIMIT_CHECK_SECONDS = 1;

    private final ConcurrentMap<String, ModelWorkers> models = new ConcurrentHashMap<>();
    private final ConfigManager config;
    private final EventLoopGroup loops;
    private final SocketAddress zygote;
    private final AtomicInteger count = new AtomicInteger();

    Workers(ConfigManager config, EventLoopGroup loops, SocketAddress zygote) {
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
    ModelWorkers of(String modelName) {
        return models.get(modelName);
    }

    private void checkLimits() {
        long nowNs = System.nanoTime();
        for (ModelWorkers each : models.values()) {
            each.checkLimits(nowNs);
        }
    }

    @Override
    public CompletableFuture<HttpResponseStatus> modelChanged(Model model) {
        String name = model.getModelName();
        int most = model.getMaxWorkers();
        if (most == 0) {
            ModelWorkers gone = models.get(name);
            if (gone != null && gone.isOf(model) && models.remove(name, gone)) {
                gone.close();
            }
            return CompletableFuture.completedFuture(HttpResponseStatus.OK);
        }
        ModelWorkers workers = workersOf(model);
        CompletableFuture<HttpResponseStatus> scaled =
                workers.scale(model.getMinWorkers(), most, () -> newWorker(model, workers));
        // MMS may have unregistered it meanwhile, and nobody would end them then.
        if (ModelManager.getInstance().getModels().get(name) != model) {
            models.remove(name, workers);
            workers.close();
        }
        return scaled;
    }

    private ModelWorkers workersOf(Model model) {
        String name = model.getModelName();
        ModelWorkers found = models.get(name);
        if (found != null && found.isOf(model)) {
            return found;
        }
        ModelWorkers made = new ModelWorkers(model, config.getJobQueueSize());
        // One of the same name is about to go: MMS forgets a model before it ends its workers.
        ModelWorkers before = models.put(name, made);
        if (before != null) {
            before.close();
        }
        return made;
    }

    private Worker newWorker(Model model, ModelWorkers owner) {
        int number = count.getAndIncrement();
        int gpus = config.getNumberOfGpu();
        return new Worker(
                model, owner, loops.next(), zygote, gpus > 0 ? number % gpus : -1, number);
    }

    /** MMS waits here for a model's Python process, of which there is none. */
    @Override
    public void addServerThread(Model model, CompletableFuture<HttpResponseStatus> future) {
        future.complete(HttpResponseStatus.OK);
    }

    @Override
    public List<WorkerThread> getWorkers(String modelName) {
        ModelWorkers workers = models.get(modelName);
        return workers == null ? Collections.emptyList() : workers.workers();
    }

    /** For MMS's metrics of processes, which are not collected. */
    @Override
    public Map<Integer, WorkerThread> getWorkers() {
        return Collections.emptyMap();
    }

    @Override
    public boolean hasNoWorker(String modelName) {
        ModelWorkers workers = models.get(modelName);
        return workers == null || workers.isEmpty();
    }

    @Override
    public int getNumRunningWorkers(String modelName) {
        ModelWorkers workers = models.get(modelName);
        return workers == null ? 0 : workers.runningCount();
    }
}

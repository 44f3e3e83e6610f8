// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.InvalidModelException;
import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.archive.ModelException;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.channel.EventLoopGroup;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads, scales and unloads models, in place of MMS's ModelManager.java, which goes on to know them.
 *
 * <p>Nothing here waits: what takes a while ends a future, which holds a {@link RequestException}
 * where it has failed in a way that its caller can be told.
 */
final class Models {

    private static final Logger LOG = LoggerFactory.getLogger(Models.class);

    /** The zygote's own limit for a load comes first, and knows more (zygote/zygote.py, _check_limits). */
    private static final int BEHIND_SECONDS = 2;

    /** Whether models are being loaded anew, and whether that has been asked for again meanwhile. */
    private enum Reloading {
        NOT,
        UNDER_WAY,
        AND_ONCE_MORE
    }

    private Reloading reloading = Reloading.NOT;
    private final ConfigManager config;
    private final WorkerPools workers;
    private final EventLoopGroup timers;
    private final ReadingThreads readers;
    private final int startupSeconds = Setting.number("startup_seconds", "600");
    private final int unloadSeconds = Setting.number("unload_seconds", "60");

    Models(ConfigManager config, WorkerPools workers, EventLoopGroup timers) {
        this.config = config;
        this.workers = workers;
        this.timers = timers;
        readers = new ReadingThreads(timers, startupSeconds);
    }

    WorkerPools workers() {
        return workers;
    }

    // -- Reload --

    /**
     * Has all models loaded anew by new workers, which take over from the others once they have. The
     * zygote says what came of each. One that is asked for meanwhile follows.
     */
    synchronized void reload() {
        if (reloading != Reloading.NOT) {
            reloading = Reloading.AND_ONCE_MORE;
            return;
        }
        reloading = Reloading.UNDER_WAY;
        CompletableFuture<?>[] all =
                workers.sorted().stream()
                        .map(each -> told(each, each.reload()))
                        .toArray(CompletableFuture[]::new);
        CompletableFuture.allOf(all).whenCompleteAsync((done, error) -> reloaded(), timers);
    }

    /** Says why a reload has not even begun; of one that has, the zygote says what came of it. */
    private static CompletableFuture<Void> told(WorkerPool model, CompletableFuture<Void> reload) {
        if (!reload.isCompletedExceptionally()) {
            return reload.exceptionally(error -> null);
        }
        return reload.exceptionally(
                error -> {
                    LOG.warn("model {} is not reloaded: {}", model.name(), error.getMessage());
                    return null;
                });
    }

    private synchronized void reloaded() {
        boolean isAskedFor = reloading == Reloading.AND_ONCE_MORE;
        reloading = Reloading.NOT;
        if (isAskedFor) {
            reload();
        }
    }

    // -- Load --

    /** Loads a model; ends with whether it has workers, once all of them have loaded it. */
    CompletableFuture<Loading> load(LoadRequestCheck request) {
        long begunNs = System.nanoTime();
        if (request.name != null) {
            workers.refuseIfTaken(request.name);
        }
        return readers.read(
                        request.url, () -> ModelFiles.open(config.getModelStore(), request.url))
                .thenApply(archive -> register(request, archive))
                .thenApply(registered -> start(request, registered, begunNs));
    }

    /**
     * Loads a model that the server is started with; ends once it is registered. Its workers load it
     * again and again, where they have to: the zygote decides when that is to end.
     */
    CompletableFuture<Void> loadAtStart(LoadRequestCheck request) {
        return readers.read(
                        request.url, () -> ModelFiles.open(config.getModelStore(), request.url))
                .thenAccept(
                        archive -> {
                            WorkerPool registered = register(request, archive);
                            ModelManager.getInstance().getStartupModels().add(registered.name());
                            CompletableFuture<Boolean> scaled =
                                    registered.scale(request.workers, request.workers);
                            if (scaled.isCompletedExceptionally()) {
                                scaled.join();
                            }
                        });
    }

    /** A model that is registered, and its workers on their way. */
    static final class Loading {
        final String name;
        /** Ends when all of its workers have loaded it; null where it is to have none. */
        final CompletableFuture<Boolean> workers;

        Loading(String name, CompletableFuture<Boolean> workers) {
            this.name = name;
            this.workers = workers;
        }
    }

    private WorkerPool register(LoadRequestCheck request, ModelArchive archive) {
        try {
            return workers.register(model(request, archive));
        } catch (ModelException e) {
            readers.clean(archive);
            throw new CompletionException(e);
        } catch (RuntimeException e) {
            readers.clean(archive);
            throw e;
        }
    }

    private Model model(LoadRequestCheck request, ModelArchive archive) throws ModelException {
        Manifest.Model described = archive.getManifest().getModel();
        if (described == null) {
            throw new InvalidModelException("Missing Model entry in manifest file.");
        }
        if (request.name != null) {
            described.setModelName(request.name);
        } else if (described.getModelName() == null || described.getModelName().isEmpty()) {
            described.setModelName(request.fallbackName);
        }
        if (request.handler != null) {
            described.setHandler(request.handler);
        } else if (described.getHandler() == null || described.getHandler().isEmpty()) {
            described.setHandler(config.getMmsDefaultServiceHandler());
        }
        if (request.runtime != null) {
            archive.getManifest().setRuntime(request.runtime);
        }
        archive.validate();
        ModelName.checked(described.getModelName());
        Model model = new Model(archive, config.getJobQueueSize(), config.getPreloadModel());
        model.setBatchSize(request.batchSize);
        model.setMaxBatchDelay(request.batchDelayMs);
        model.setResponseTimeoutSeconds(request.responseSeconds);
        return model;
    }

    private Loading start(LoadRequestCheck request, WorkerPool registered, long begunNs) {
        String name = registered.name();
        if (request.workers == 0) {
            return new Loading(name, null);
        }
        CompletableFuture<Boolean> scaled =
                limited(registered.scale(request.workers, request.workers), begunNs);
        return new Loading(
                name,
                scaled.handle(
                        (complete, error) -> {
                            if (error != null) {
                                forget(registered);
                                throw failed(request, name, error);
                            }
                            return complete;
                        }));
    }

    /** Ends at the limit at the latest, though no worker has said that it has failed. */
    private CompletableFuture<Boolean> limited(CompletableFuture<Boolean> scaled, long begunNs) {
        Future<?> timer =
                timers.next()
                        .schedule(() -> beLate(scaled), leftNs(begunNs), TimeUnit.NANOSECONDS);
        scaled.whenComplete((complete, error) -> timer.cancel(false));
        return scaled;
    }

    private long leftNs(long begunNs) {
        long limitNs = TimeUnit.SECONDS.toNanos(startupSeconds + BEHIND_SECONDS);
        return Math.max(0, limitNs - (System.nanoTime() - begunNs));
    }

    private void beLate(CompletableFuture<Boolean> scaled) {
        scaled.completeExceptionally(
                RequestException.failure(
                        HttpResponseStatus.INTERNAL_SERVER_ERROR,
                        "It did not load within "
                                + startupSeconds
                                + " seconds (SAGEMAKER_STARTUP_TIMEOUT), the reading of its files"
                                + " included."));
    }

    private static RuntimeException failed(LoadRequestCheck request, String name, Throwable error) {
        RuntimeException told = told("The model " + name + " could not be loaded: ", error);
        if (!request.synchronous) {
            LOG.warn("{}", told.getMessage()); // nobody waits to be told
        }
        return told;
    }

    /**
     * What a step has failed with; where it is no fault of the caller's, behind these words, and with
     * the id under which the log has more.
     */
    private static RuntimeException told(String beginning, Throwable error) {
        RequestException known = RequestException.of(error);
        if (known == null) {
            return new CompletionException(error);
        }
        if (known.status.code() < HttpResponseStatus.INTERNAL_SERVER_ERROR.code()) {
            return known;
        }
        String id = known.errorId;
        if (id == null) {
            id = Invocation.newId().replace("-", "");
            LOG.warn("{}{} (error id {})", beginning, known.getMessage(), id);
        }
        String message = beginning + ended(known.getMessage()) + " Error id " + id + ".";
        return known.as(message, id);
    }

    private static String ended(String sentence) {
        return sentence.isEmpty() || ".!?".indexOf(sentence.charAt(sentence.length() - 1)) < 0
                ? sentence + "."
                : sentence;
    }

    private void forget(WorkerPool gone) {
        workers.remove(gone);
        readers.clean(gone.archive());
    }

    // -- Scale --

    /** Changes the number of a model's workers; ends with whether it has as many as were asked for. */
    CompletableFuture<Boolean> scale(String name, int least, int most) {
        WorkerPool found = workers.of(name);
        if (found == null) {
            throw workers.unknown(name);
        }
        return limited(found.scale(least, most), System.nanoTime())
                .handle(
                        (complete, error) -> {
                            if (error != null) {
                                throw told("The model " + name + " could not be scaled: ", error);
                            }
                            return complete;
                        });
    }

    // -- Unload --

    /**
     * Unloads a model once it has answered what it was asked, or the limit has been reached. Of
     * several callers at a time one has unloaded it, and the others are told that it is gone.
     */
    CompletableFuture<Void> unload(String name) {
        WorkerPool drained = workers.of(name);
        if (drained == null) {
            throw workers.unknown(name);
        }
        CompletableFuture<Void> idle = new CompletableFuture<>();
        if (!drained.beginDrain(idle)) {
            return drained.gone()
                    .thenRun(
                            () -> {
                                throw workers.unknown(name);
                            });
        }
        Future<?> timer =
                timers.next()
                        .schedule(() -> idle.complete(null), unloadSeconds, TimeUnit.SECONDS);
        return idle.thenRun(
                () -> {
                    timer.cancel(false);
                    forget(drained);
                });
    }
}

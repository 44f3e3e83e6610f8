// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.util.ConfigManager;
import java.util.Arrays;
import java.util.List;

/** What is to be loaded, and how: the parameters of POST /models (RegisterModelRequest.java). */
final class LoadRequestCheck {

    /** MMS's, where none is given. */
    private static final int BATCH_DELAY_MS = 100;

    /** More than the largest machine has CPUs; all workers together have a limit of their own. */
    static final int MOST_WORKERS = 1024;

    private static final int MOST_BATCH_SIZE = 1024;
    private static final int MOST_BATCH_DELAY_MS = 3_600_000;
    private static final int MOST_SECONDS = 86_400;
    /** PATH_MAX of Linux. */
    private static final int MOST_CHARACTERS = 4096;

    private static final List<String> RUNTIMES = Arrays.asList("python", "python2", "python3");

    /** null: the manifest's. */
    final String name;
    /** Where the manifest has none either; null: such a model is refused. */
    final String fallbackName;

    final String url;
    /** null: the manifest's, or else the server's. */
    final String handler;
    /** null: the manifest's. */
    final Manifest.RuntimeType runtime;

    final int batchSize;
    final int batchDelayMs;
    final int responseSeconds;
    final int workers;
    final boolean synchronous;

    /** A load that no request asks for. */
    LoadRequestCheck(String name, String fallbackName, String url, ConfigManager config) {
        this.name = name == null ? null : ModelName.checked(name);
        this.fallbackName = fallbackName;
        this.url = url;
        handler = null;
        runtime = null;
        batchSize = 1;
        batchDelayMs = BATCH_DELAY_MS;
        responseSeconds = config.getDefaultResponseTimeoutSeconds();
        workers = config.getDefaultWorkers();
        synchronous = true;
    }

    /** Throws where a parameter is missing, or has a value that it may not have. */
    LoadRequestCheck(Parameters parameters, ConfigManager config) {
        url = parameters.text("url", MOST_CHARACTERS);
        if (url == null) {
            throw RequestException.badRequest("Parameter url is required.");
        }
        String named = parameters.text("model_name", MOST_CHARACTERS);
        name = named == null ? null : ModelName.checked(named);
        fallbackName = null;
        handler = parameters.text("handler", MOST_CHARACTERS);
        String wanted = parameters.oneOf("runtime", RUNTIMES);
        runtime = wanted == null ? null : Manifest.RuntimeType.fromValue(wanted);
        batchSize = parameters.number("batch_size", 1, 1, MOST_BATCH_SIZE);
        batchDelayMs = parameters.number("max_batch_delay", BATCH_DELAY_MS, 0, MOST_BATCH_DELAY_MS);
        int seconds = config.getDefaultResponseTimeoutSeconds();
        responseSeconds = parameters.number("response_timeout", seconds, 1, MOST_SECONDS);
        int usual = config.getConfiguredDefaultWorkersPerModel();
        workers = parameters.number("initial_workers", usual, 0, MOST_WORKERS);
        synchronous = parameters.flag("synchronous", true);
        // MMS's own workers would heed it.
        parameters.flag("preload_model", false);
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.ModelManager;
import java.io.File;
import java.util.ArrayList;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The models that {@code load_models} names, read as MMS does it (ModelServer.java, initModelStore). */
final class StartupModels {

    private static final Logger LOG = LoggerFactory.getLogger(StartupModels.class);

    /** MMS's, for models that are not loaded by a request. */
    private static final int MAX_BATCH_DELAY_MS = 100;

    private StartupModels() {}

    static void load(ConfigManager config) {
        String wanted = config.getLoadModels();
        if (wanted == null || wanted.isEmpty()) {
            return;
        }
        if (wanted.equalsIgnoreCase("ALL")) {
            for (File each : stored(config.getModelStore())) {
                load(config, null, each.getName());
            }
            return;
        }
        for (String model : wanted.split(",")) {
            String[] pair = model.split("=", 2);
            String url = pair[pair.length - 1];
            if (!url.isEmpty()) {
                load(config, pair.length == 2 ? pair[0] : null, url);
            }
        }
    }

    private static List<File> stored(String modelStore) {
        List<File> found = new ArrayList<>();
        File[] files = modelStore == null ? null : new File(modelStore).listFiles();
        if (files == null) {
            LOG.warn("load_models is ALL, and the model store {} cannot be read", modelStore);
            return found;
        }
        for (File file : files) {
            boolean isArchive = file.getName().endsWith(".mar") || file.getName().endsWith(".model");
            if (!file.isHidden() && (file.isDirectory() || isArchive)) {
                found.add(file);
            }
        }
        return found;
    }

    private static void load(ConfigManager config, String name, String url) {
        ModelManager manager = ModelManager.getInstance();
        try {
            ModelArchive archive =
                    manager.registerModel(
                            url,
                            name,
                            null,
                            null,
                            1,
                            MAX_BATCH_DELAY_MS,
                            config.getDefaultResponseTimeoutSeconds(),
                            defaultName(url),
                            config.getPreloadModel());
            int workers = config.getDefaultWorkers();
            manager.updateModel(archive.getModelName(), workers, workers);
            manager.getStartupModels().add(archive.getModelName());
        } catch (Exception e) {
            LOG.warn("The model {} cannot be loaded", url, e);
        }
    }

    private static String defaultName(String url) {
        String file = url.substring(url.lastIndexOf('/') + 1);
        boolean isArchive = file.contains(".model") || file.contains(".mar");
        String stem = isArchive ? file.substring(0, file.lastIndexOf('.')) : file;
        return stem.replaceAll("(\\W|^_)", "_");
    }
}

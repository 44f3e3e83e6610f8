// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.util.ConfigManager;
import java.io.File;
import java.util.ArrayList;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The models that {@code load_models} names, read as MMS does it (ModelServer.java, initModelStore). */
final class StartupModels {

    private static final Logger LOG = LoggerFactory.getLogger(StartupModels.class);

    private final ConfigManager config;
    private final Models models;
    private final boolean isRequired;

    /** Where they are required, one that cannot be registered is an error, and else a warning. */
    StartupModels(ConfigManager config, Models models, boolean isRequired) {
        this.config = config;
        this.models = models;
        this.isRequired = isRequired;
    }

    void load() {
        String wanted = config.getLoadModels();
        if (wanted == null || wanted.isEmpty()) {
            return;
        }
        if (wanted.equalsIgnoreCase("ALL")) {
            for (File each : stored(config.getModelStore())) {
                load(null, each.getName());
            }
            return;
        }
        for (String model : wanted.split(",")) {
            String[] pair = model.split("=", 2);
            String url = pair[pair.length - 1];
            if (!url.isEmpty()) {
                load(pair.length == 2 ? pair[0] : null, url);
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

    private void load(String name, String url) {
        try {
            LoadRequestCheck request = new LoadRequestCheck(name, defaultName(url), url, config);
            models.loadAtStart(request).join();
        } catch (RuntimeException e) {
            RequestException known = RequestException.of(e);
            String reason = known == null ? String.valueOf(e) : known.getMessage();
            if (isRequired) {
                throw new IllegalStateException("the model " + url + " cannot be loaded: " + reason, e);
            }
            LOG.warn("The model {} cannot be loaded: {}", url, reason);
        }
    }

    private static String defaultName(String url) {
        String file = url.substring(url.lastIndexOf('/') + 1);
        boolean isArchive = file.contains(".model") || file.contains(".mar");
        String stem = isArchive ? file.substring(0, file.lastIndexOf('.')) : file;
        return stem.replaceAll("(\\W|^_)", "_");
    }
}

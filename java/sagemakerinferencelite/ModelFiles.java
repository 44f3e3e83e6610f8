// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.DownloadModelException;
import com.amazonaws.ml.mms.archive.InvalidModelException;
import com.amazonaws.ml.mms.archive.LegacyManifest;
import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.archive.ModelArchive;
import com.amazonaws.ml.mms.archive.ModelException;
import com.amazonaws.ml.mms.archive.ModelNotFoundException;
import com.google.gson.JsonParseException;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;
import org.apache.commons.io.FileUtils;

/**
 * Finds what the url of a load names, and reads its manifest, as MMS does it (ModelArchive.java,
 * downloadModel), but nothing that has no end.
 *
 * <p>All of it may hang for as long as a disk or a network does.
 */
final class ModelFiles {

    private static final Pattern REMOTE = Pattern.compile("https?://.*", Pattern.CASE_INSENSITIVE);
    private static final Pattern ADDRESS = Pattern.compile("[A-Za-z][A-Za-z0-9+.-]*://.*");
    private static final Pattern PACKED =
            Pattern.compile(".+\\.(tar\\.gz|tgz)", Pattern.CASE_INSENSITIVE);
    private static final boolean DOWNLOADS =
            Boolean.parseBoolean(Setting.optional("allow_download", "false"));
    private static final String MANIFEST = "MANIFEST.json";

    /** More would be no manifest, and would have to fit into the heap. */
    private static final long MOST_MANIFEST_BYTES = 1 << 20;

    private ModelFiles() {}

    static ModelArchive open(String modelStore, String url) throws ModelException, IOException {
        if (REMOTE.matcher(url).matches()) {
            if (!DOWNLOADS) {
                throw new DownloadModelException(
                        "Models are not downloaded from " + url + ": give the path of one that is in"
                                + " the container, or set SAGEMAKER_ALLOW_MODEL_DOWNLOAD=true.");
            }
            return unpacked(url, download(url));
        }
        if (ADDRESS.matcher(url).matches()) {
            throw new ModelNotFoundException(
                    url + " is an address that this server does not open: give the path of a model"
                            + " that is in the container.");
        }
        if (url.contains("..")) {
            throw new ModelNotFoundException("Relative path is not allowed in url: " + url);
        }
        if (modelStore == null) {
            throw new ModelNotFoundException("Model store has not been configured.");
        }
        File location = new File(modelStore, url);
        if (location.isDirectory()) {
            refuseWherePacked(location.toPath());
            return new ModelArchive(manifest(location.toPath()), url, location, false);
        }
        if (location.isFile()) {
            return unpacked(url, Files.newInputStream(location.toPath()));
        }
        throw location.exists()
                ? new InvalidModelException(url + " is neither a directory nor an archive.")
                : new ModelNotFoundException(whyMissing(location.toPath()));
    }

    /** Refuses a directory in which the model has not been unpacked, with which no handler can do anything. */
    private static void refuseWherePacked(Path directory) throws ModelException, IOException {
        Path only = null;
        try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
            for (Path each : entries) {
                boolean isHidden = each.getFileName().toString().startsWith(".");
                if (!isHidden && only != null) {
                    return;
                }
                only = isHidden ? only : each;
            }
        }
        if (only != null && PACKED.matcher(only.getFileName().toString()).matches()
                && Files.isRegularFile(only)) {
            throw new InvalidModelException(
                    directory
                            + " holds the packed "
                            + Parameters.shown(only.getFileName().toString(), 100)
                            + " alone: unpack it there, or give the archive itself as url.");
        }
    }

    /** The first part of a path that is not there, and why. */
    private static String whyMissing(Path wanted) throws IOException {
        String beginning = wanted + " does not exist: ";
        for (Path each = wanted, child = null; each != null; child = each, each = each.getParent()) {
            if (Files.isSymbolicLink(each) && !Files.exists(each)) {
                String target = Parameters.shown(Files.readSymbolicLink(each).toString(), 200);
                return (child == null ? "" : beginning)
                        + each
                        + " is a link to "
                        + target
                        + ", which does not exist"
                        + (target.startsWith("/") ? " in this container." : " beside it.");
            }
            if (!Files.exists(each)) {
                continue;
            }
            if (!Files.isDirectory(each)) {
                return beginning + each + " is a file.";
            }
            if (!Files.isExecutable(each)) {
                return wanted + " cannot be reached: this server's user may not search " + each + ".";
            }
            if (child != null) {
                return beginning
                        + each
                        + " has no "
                        + child.getFileName()
                        + ". The path must be one in this container.";
            }
        }
        return beginning + "the path must be one in this container.";
    }

    private static InputStream download(String url) throws ModelException {
        try {
            HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
            int status = connection.getResponseCode();
            if (status != HttpURLConnection.HTTP_OK) {
                throw new DownloadModelException(
                        "Failed to download model from: " + url + ", code: " + status);
            }
            return connection.getInputStream();
        } catch (IOException | RuntimeException e) {
            // RuntimeException: a port that is out of range.
            throw new DownloadModelException("Failed to download model from: " + url, e);
        }
    }

    /**
     * Unpacks into a directory of the load's own: with MMS archives of equal content share one,
     * which goes with the first of them.
     */
    private static ModelArchive unpacked(String url, InputStream archive)
            throws ModelException, IOException {
        File directory;
        try (InputStream stream = archive) {
            directory = Unpacking.unpack(url, stream);
        }
        try {
            return new ModelArchive(manifest(directory.toPath()), url, directory, true);
        } catch (ModelException | IOException | RuntimeException e) {
            FileUtils.deleteQuietly(directory);
            throw e;
        }
    }

    private static Manifest manifest(Path directory) throws ModelException, IOException {
        Path current = directory.resolve("MAR-INF").resolve(MANIFEST);
        if (Files.exists(current)) {
            return parse(current, Manifest.class);
        }
        Path legacy = directory.resolve(MANIFEST);
        if (Files.exists(legacy)) {
            LegacyManifest found = parse(legacy, LegacyManifest.class);
            // Other programs have files of that name too.
            return found.getModelInfo() == null ? new Manifest() : found.migrate();
        }
        return new Manifest();
    }

    private static <T> T parse(Path file, Class<T> type) throws ModelException, IOException {
        // Looked at before it is opened: to open a named pipe is to wait for somebody who writes.
        if (!Files.isRegularFile(file)) {
            throw new InvalidModelException("The manifest is not a regular file: " + file);
        }
        if (Files.size(file) > MOST_MANIFEST_BYTES) {
            throw new InvalidModelException(
                    "The manifest is larger than " + MOST_MANIFEST_BYTES + " bytes: " + file);
        }
        try {
            String text = new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
            T manifest = ModelArchive.GSON.fromJson(text, type);
            if (manifest != null) {
                return manifest;
            }
        } catch (JsonParseException | StackOverflowError e) {
            throw new InvalidModelException("The manifest is not JSON: " + file, e);
        }
        throw new InvalidModelException("The manifest is empty: " + file);
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.InvalidModelException;
import com.amazonaws.ml.mms.archive.ModelException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.io.EOFException;
import java.io.File;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.UUID;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipInputStream;
import org.apache.commons.io.FileUtils;

/**
 * Unpacks a model's archive, a zip file or a gzip-compressed tar file, into a directory of its own.
 *
 * <p>An archive may be anybody's: whatever is in it, nothing is written outside of that directory, no
 * link or device is made, and what it may take has an end. Where it cannot be unpacked, nothing of it
 * is left.
 */
final class Unpacking {

    private static final int MOST_ENTRIES = 100_000;

    /** PATH_MAX of Linux. */
    private static final int MOST_NAME_BYTES = 4096;
    /** NAME_MAX. */
    private static final int MOST_PART_BYTES = 255;

    /** How much larger than its archive a model may be, from a size on that any may have. */
    private static final long MOST_RATIO = 200;

    private static final long ANY_BYTES = 256L << 20;

    /** What an archive must leave of the disk that the server, and other models, write to. */
    private static final long LEFT_BYTES = 32L << 20;

    /** How much is written between two looks at the disk. */
    private static final long LOOK_BYTES = 16L << 20;

    private static final int BUFFER_BYTES = 1 << 16;
    private static final int NAME_CHARACTERS = 200;

    private static final byte[] GZIP = {0x1f, (byte) 0x8b};
    private static final byte[] ZIP = {'P', 'K'};

    private final String url;
    private final Counted archive;
    private final Path directory;
    private final byte[] buffer = new byte[BUFFER_BYTES];
    private int entries;
    private long written;
    private long lookedAt;

    private Unpacking(String url, InputStream archive, Path directory) {
        this.url = url;
        this.archive = new Counted(archive);
        this.directory = directory;
    }

    /**
     * Unpacks an archive, whose stream stays the caller's; returns the directory.
     *
     * @param url what it is called where it is refused
     */
    static File unpack(String url, InputStream archive) throws ModelException, IOException {
        Path parent = FileUtils.getTempDirectory().toPath().resolve("models");
        Path directory = Files.createDirectories(parent.resolve(UUID.randomUUID().toString()));
        try {
            new Unpacking(url, archive, directory).unpack();
            return directory.toFile();
        } catch (ModelException | IOException | RuntimeException e) {
            FileUtils.deleteQuietly(directory.toFile());
            throw e;
        }
    }

    private void unpack() throws ModelException, IOException {
        try {
            byte[] first = new byte[2];
            int length = read(archive, first);
            archive.begin(first, length);
            if (length == 2 && first[0] == GZIP[0] && first[1] == GZIP[1]) {
                untar();
            } else if (length == 2 && first[0] == ZIP[0] && first[1] == ZIP[1]) {
                unzip();
            } else {
                throw new InvalidModelException(
                        url
                                + " is neither a directory nor an archive (.tar.gz, .zip, .mar): give the"
                                + " directory that the model's files are in, or an archive of it.");
            }
        } catch (EndedException | ZipException | EOFException e) {
            String why = e.getMessage() == null ? "it ends too early" : e.getMessage();
            throw refused("is truncated or corrupt: " + Parameters.shown(why, 200));
        } catch (IOException e) {
            if (isFull(e)) {
                throw noRoom();
            }
            throw e;
        }
        if (entries == 0) {
            throw refused("is an archive of nothing: it has no file in it");
        }
    }

    private InvalidModelException refused(String why) {
        return new InvalidModelException(url + " " + why + ".");
    }

    private InvalidModelException refused(String entry, String why) {
        return refused("is not unpacked: its entry " + Parameters.shown(entry, NAME_CHARACTERS) + " " + why);
    }

    // -- Formats --

    private void untar() throws ModelException, IOException {
        TarReader tar = new TarReader(new GZIPInputStream(archive, BUFFER_BYTES));
        while (tar.next()) {
            String what = tar.whatElse();
            if (what != null) {
                throw refused(tar.name(), what);
            }
            if (tar.isDirectory()) {
                makeDirectory(tar.name());
            } else {
                refuseWhereNoRoom(tar.size());
                write(tar.name(), tar.content(), tar.isExecutable());
            }
        }
        tar.checkRest(ANY_BYTES);
    }

    private void unzip() throws ModelException, IOException {
        ZipInputStream zip = new ZipInputStream(archive);
        ZipEntry entry;
        try {
            while ((entry = zip.getNextEntry()) != null) {
                if (entry.isDirectory()) {
                    makeDirectory(entry.getName());
                } else {
                    write(entry.getName(), zip, false);
                }
            }
        } catch (IllegalArgumentException e) {
            throw new EndedException("a name in it is not UTF-8");
        }
        // The reader stops at the list of what has come, which is the archive's end: were it cut off
        // before, nobody else would see it.
        archive.readToEnd(buffer);
        if (!archive.endsAZip()) {
            throw new EndedException("its list of entries is not there");
        }
    }

    // -- Entries --

    private void makeDirectory(String name) throws ModelException, IOException {
        count();
        make(name, place(name));
    }

    private void write(String name, InputStream content, boolean isExecutable)
            throws ModelException, IOException {
        count();
        Path file = place(name);
        if (file.equals(directory)) {
            throw refused(name, "is a file without a name");
        }
        make(name, file.getParent());
        if (Files.isDirectory(file)) {
            throw refused(name, "is a file where the archive has a directory");
        }
        try (OutputStream out = Files.newOutputStream(file)) {
            int length;
            while ((length = content.read(buffer)) >= 0) {
                written += length;
                refuseWhereTooLarge();
                out.write(buffer, 0, length);
            }
        }
        if (isExecutable) {
            file.toFile().setExecutable(true, false);
        }
    }

    private void count() throws ModelException {
        if (++entries > MOST_ENTRIES) {
            throw refused("is not unpacked: it has more than " + MOST_ENTRIES + " entries");
        }
    }

    /** Where an entry goes; throws unless that is in the directory. */
    private Path place(String name) throws ModelException {
        refuseWhereLonger(name, name, MOST_NAME_BYTES);
        if (name.startsWith("/")) {
            throw refused(name, "has an absolute path, and would be written outside of the model's directory");
        }
        Path place = directory;
        try {
            for (String part : name.split("/")) {
                if (part.equals("..")) {
                    throw refused(name, "would be written outside of the model's directory");
                }
                refuseWhereLonger(name, part, MOST_PART_BYTES);
                if (!part.isEmpty() && !part.equals(".")) {
                    place = place.resolve(part);
                }
            }
        } catch (InvalidPathException e) {
            throw refused(
                    name,
                    "has a name that no file can have here: "
                            + e.getReason()
                            + " (LC_ALL=C.UTF-8 lets names be any text)");
        }
        return place;
    }

    private void refuseWhereLonger(String name, String part, int most) throws ModelException {
        if (part.getBytes(StandardCharsets.UTF_8).length > most) {
            throw refused(name, "has a name of more than " + most + " bytes");
        }
    }

    private void make(String name, Path wanted) throws ModelException, IOException {
        for (Path each = wanted; !each.equals(directory); each = each.getParent()) {
            if (Files.isRegularFile(each)) {
                throw refused(name, "needs a directory where the archive has a file");
            }
        }
        Files.createDirectories(wanted);
    }

    // -- Limits --

    private void refuseWhereTooLarge() throws ModelException {
        if (written > ANY_BYTES && written / MOST_RATIO > archive.count) {
            throw refused(
                    "is not unpacked: it unpacks to more than "
                            + MOST_RATIO
                            + " times its size, as no model does");
        }
        if (written - lookedAt >= LOOK_BYTES) {
            lookedAt = written;
            refuseWhereNoRoom(0);
        }
    }

    private void refuseWhereNoRoom(long wanted) {
        if (wanted > directory.toFile().getUsableSpace() - LEFT_BYTES) {
            throw noRoom();
        }
    }

    /** The contract's 507: what other models have unpacked is on the same disk, and goes with them. */
    private RequestException noRoom() {
        return RequestException.failure(
                HttpResponseStatus.INSUFFICIENT_STORAGE,
                "There is no room to unpack "
                        + url
                        + ": the disk of "
                        + directory.getParent()
                        + " has "
                        + (directory.toFile().getUsableSpace() >> 20)
                        + " MiB left. Unload models, or set TMPDIR to a directory on a larger disk.");
    }

    private static boolean isFull(IOException error) {
        String message = String.valueOf(error.getMessage());
        return message.contains("No space left") || message.contains("quota exceeded");
    }

    /** Reads until the bytes are full or nothing more comes; how many have come. */
    static int read(InputStream in, byte[] bytes) throws IOException {
        int length = 0;
        int more;
        while (length < bytes.length
                && (more = in.read(bytes, length, bytes.length - length)) >= 0) {
            length += more;
        }
        return length;
    }

    /** The archive is not what its beginning says; the message says why. */
    static final class EndedException extends IOException {

        private static final long serialVersionUID = 1L;

        EndedException(String message) {
            super(message);
        }
    }

    /** A stream that knows how much has been read of it, and what came last. */
    private static final class Counted extends FilterInputStream {

        /** The end of a zip file: a record of 22 bytes, and a comment of up to 65,535. */
        private static final int MOST_TAIL_BYTES = 22 + 65_535;

        private static final byte[] TAIL = {'P', 'K', 5, 6};

        private long count;
        private byte[] first = {};
        private int taken;
        private final byte[] tail = new byte[2 * MOST_TAIL_BYTES];
        private int tailLength;

        Counted(InputStream in) {
            super(in);
        }

        /** Has it begin with what has been read of it already. */
        void begin(byte[] bytes, int length) {
            first = Arrays.copyOf(bytes, length);
            count = 0;
            tailLength = 0;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] bytes, int offset, int length) throws IOException {
            int came;
            if (taken < first.length && length > 0) {
                came = Math.min(length, first.length - taken);
                System.arraycopy(first, taken, bytes, offset, came);
                taken += came;
            } else {
                came = in.read(bytes, offset, length);
            }
            if (came > 0) {
                count += came;
                keep(bytes, offset, came);
            }
            return came;
        }

        private void keep(byte[] bytes, int offset, int length) {
            int kept = Math.min(length, MOST_TAIL_BYTES);
            if (tailLength + kept > tail.length) {
                System.arraycopy(
                        tail, tailLength - MOST_TAIL_BYTES, tail, 0, MOST_TAIL_BYTES);
                tailLength = MOST_TAIL_BYTES;
            }
            System.arraycopy(bytes, offset + length - kept, tail, tailLength, kept);
            tailLength += kept;
        }

        void readToEnd(byte[] buffer) throws IOException {
            while (read(buffer, 0, buffer.length) >= 0) {
                // What is kept is all that is wanted.
            }
        }

        boolean endsAZip() {
            int from = Math.max(0, tailLength - MOST_TAIL_BYTES);
            for (int at = tailLength - 22; at >= from; at--) {
                if (tail[at] == TAIL[0]
                        && tail[at + 1] == TAIL[1]
                        && tail[at + 2] == TAIL[2]
                        && tail[at + 3] == TAIL[3]) {
                    return true;
                }
            }
            return false;
        }
    }
}

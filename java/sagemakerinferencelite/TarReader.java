// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads a tar file: POSIX.1-2001 (ustar, with pax headers' path and size), GNU's (long names, large
 * sizes) and what was before them. It writes nothing: {@link Unpacking} does.
 */
final class TarReader {

    private static final int BLOCK_BYTES = 512;

    /** More is no name, whatever a header says. */
    private static final long MOST_HEADER_BYTES = 1 << 20;

    private static final int NAME = 0;
    private static final int NAME_BYTES = 100;
    private static final int MODE = 100;
    private static final int SIZE = 124;
    private static final int SIZE_BYTES = 12;
    private static final int CHECKSUM = 148;
    private static final int SHORT_NUMBER_BYTES = 8;
    private static final int TYPE = 156;
    private static final int LINK = 157;
    private static final int MAGIC = 257;
    private static final int PREFIX = 345;
    private static final int PREFIX_BYTES = 155;

    private static final int EXECUTABLE = 0100;

    private static final String ALONE =
            "; a model's archive has files and directories alone";

    private final InputStream in;
    private final byte[] block = new byte[BLOCK_BYTES];
    private boolean hasBegun;

    /** Of the entry. */
    private String name;

    private char type;
    private long size;
    private boolean isSparse;

    /** Of its content, and of what fills its last block. */
    private long left;

    private long padding;

    TarReader(InputStream in) {
        this.in = in;
    }

    /** Goes to the next entry; false at the archive's end. */
    boolean next() throws IOException {
        String longName = null;
        String paxName = null;
        long paxSize = -1;
        isSparse = false;
        while (true) {
            skipContent();
            if (!readHeader()) {
                if (longName != null || paxName != null) {
                    throw new Unpacking.EndedException("it ends before an entry that it has announced");
                }
                return false;
            }
            if (type == 'L') {
                longName = text(readAll());
            } else if (type == 'x') {
                for (String[] each : records(readAll())) {
                    if (each[0].equals("path")) {
                        paxName = each[1];
                    } else if (each[0].equals("size")) {
                        paxSize = decimal(each[1]);
                    } else if (each[0].startsWith("GNU.sparse.")) {
                        isSparse = true;
                    }
                }
            } else if (type == 'g' || type == 'K') {
                readAll(); // a comment, or the long name of what a link leads to
            } else {
                break;
            }
        }
        name = paxName != null ? paxName : longName != null ? longName : name;
        if (paxSize >= 0 && hasContent()) {
            begin(paxSize);
        }
        return true;
    }

    String name() {
        return name;
    }

    /** What an entry is that is neither a file nor a directory, as a clause; null where it is one of the two. */
    String whatElse() {
        if (isSparse || type == 'S') {
            return "is a sparse file" + ALONE + ": pack it without --sparse";
        }
        switch (type) {
            case '0':
            case '\0':
            case '7':
            case '5':
                return null;
            case '1':
                return "is a hard link to "
                        + Parameters.shown(text(block, LINK, NAME_BYTES), NAME_BYTES)
                        + ALONE
                        + ": pack it with tar --hard-dereference";
            case '2':
                return "is a link to "
                        + Parameters.shown(text(block, LINK, NAME_BYTES), NAME_BYTES)
                        + ALONE
                        + ": pack what it leads to, with tar --dereference";
            case '3':
            case '4':
                return "is a device" + ALONE;
            case '6':
                return "is a named pipe" + ALONE;
            default:
                return "is of the unknown kind "
                        + Parameters.shown(String.valueOf(type), 1)
                        + ALONE;
        }
    }

    boolean isDirectory() {
        return type == '5' || type != '7' && size == 0 && name.endsWith("/");
    }

    boolean isExecutable() throws IOException {
        return (number(MODE, SHORT_NUMBER_BYTES) & EXECUTABLE) != 0;
    }

    long size() {
        return size;
    }

    /** The entry's content. It is this reader's: whoever reads it does not close it. */
    InputStream content() {
        return new InputStream() {
            @Override
            public int read() throws IOException {
                byte[] one = new byte[1];
                return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
            }

            @Override
            public int read(byte[] bytes, int offset, int length) throws IOException {
                if (left == 0) {
                    return -1;
                }
                int came = in.read(bytes, offset, (int) Math.min(length, left));
                if (came < 0) {
                    throw new Unpacking.EndedException("it ends within " + Parameters.shown(name, 200));
                }
                left -= came;
                return came;
            }
        };
    }

    /** Reads what follows the archive's end, of which the checksum of all is the last; so much at the most. */
    void checkRest(long most) throws IOException {
        long length = 0;
        int came;
        byte[] some = new byte[BLOCK_BYTES * 16];
        while ((came = in.read(some)) >= 0) {
            length += came;
            if (length > most) {
                throw new Unpacking.EndedException("more than " + most + " bytes follow its end");
            }
        }
    }

    // -- Headers --

    private void begin(long bytes) {
        size = bytes;
        left = bytes;
        padding = -bytes & (BLOCK_BYTES - 1);
    }

    private void skipContent() throws IOException {
        byte[] some = new byte[BLOCK_BYTES * 16];
        long rest = left + padding;
        while (rest > 0) {
            int came = in.read(some, 0, (int) Math.min(some.length, rest));
            if (came < 0) {
                throw new Unpacking.EndedException("it ends within " + Parameters.shown(name, 200));
            }
            rest -= came;
        }
        left = 0;
        padding = 0;
    }

    /** Reads a header; false where it is the archive's end: a block of zeros. */
    private boolean readHeader() throws IOException {
        int length = Unpacking.read(in, block);
        if (length < BLOCK_BYTES) {
            throw new Unpacking.EndedException(
                    hasBegun ? "it ends where a further entry should be" : "no tar file is in it");
        }
        if (isZero()) {
            return false;
        }
        checkSum();
        hasBegun = true;
        type = (char) (block[TYPE] & 0xff);
        name = text(block, NAME, NAME_BYTES);
        // GNU's own format has times where ustar has the beginning of a long path.
        boolean isUstar = text(block, MAGIC, 6).equals("ustar") && block[MAGIC + 5] == 0;
        String prefix = isUstar ? text(block, PREFIX, PREFIX_BYTES) : "";
        if (!prefix.isEmpty()) {
            name = prefix + "/" + name;
        }
        long bytes = number(SIZE, SIZE_BYTES);
        begin(hasContent() ? bytes : 0);
        return true;
    }

    /** Links, devices, directories and pipes have none, whatever their size says. */
    private boolean hasContent() {
        return type < '1' || type > '6';
    }

    private boolean isZero() {
        for (byte each : block) {
            if (each != 0) {
                return false;
            }
        }
        return true;
    }

    private void checkSum() throws IOException {
        long sum = 0;
        for (int at = 0; at < BLOCK_BYTES; at++) {
            boolean isOfSum = at >= CHECKSUM && at < CHECKSUM + SHORT_NUMBER_BYTES;
            sum += isOfSum ? ' ' : block[at] & 0xff;
        }
        if (sum != number(CHECKSUM, SHORT_NUMBER_BYTES)) {
            throw new Unpacking.EndedException(
                    hasBegun ? "a header's checksum is wrong" : "no tar file is in it");
        }
    }

    /** In octal digits, or, where the first bit is set, in binary (GNU's). */
    private long number(int at, int length) throws IOException {
        long value = 0;
        if ((block[at] & 0x80) != 0) {
            for (int i = at; i < at + length; i++) {
                int digits = i == at ? block[i] & 0x7f : block[i] & 0xff;
                if (value >= 1L << 55) {
                    throw new Unpacking.EndedException("a number in a header is too large");
                }
                value = value << 8 | digits;
            }
            return value;
        }
        for (int i = at; i < at + length && block[i] != 0; i++) {
            if (block[i] >= '0' && block[i] <= '7') {
                value = value << 3 | block[i] - '0';
            } else if (block[i] != ' ') {
                throw new Unpacking.EndedException(
                        hasBegun ? "a number in a header cannot be read" : "no tar file is in it");
            }
        }
        return value;
    }

    private byte[] readAll() throws IOException {
        if (size > MOST_HEADER_BYTES) {
            throw new Unpacking.EndedException("a header of " + size + " bytes");
        }
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        byte[] some = new byte[BLOCK_BYTES];
        InputStream content = content();
        int came;
        while ((came = content.read(some)) >= 0) {
            all.write(some, 0, came);
        }
        return all.toByteArray();
    }

    private static String text(byte[] bytes) {
        return text(bytes, 0, bytes.length);
    }

    /** Up to a zero byte. */
    private static String text(byte[] bytes, int at, int length) {
        int end = at;
        while (end < at + length && bytes[end] != 0) {
            end++;
        }
        return new String(bytes, at, end - at, StandardCharsets.UTF_8);
    }

    /** A pax header's: each is its length in decimal, a space, a key, =, a value, and a line feed. */
    private static List<String[]> records(byte[] data) throws IOException {
        List<String[]> found = new ArrayList<>();
        int at = 0;
        while (at < data.length) {
            int space = indexOf(data, ' ', at);
            long length = space < 0 ? -1 : decimal(text(data, at, space - at));
            if (length <= space - at + 1 || length > data.length - at) {
                throw new Unpacking.EndedException("a pax header cannot be read");
            }
            int end = at + (int) length;
            int equals = indexOf(data, '=', space);
            if (equals < 0 || equals >= end || data[end - 1] != '\n') {
                throw new Unpacking.EndedException("a pax header cannot be read");
            }
            found.add(
                    new String[] {
                        new String(data, space + 1, equals - space - 1, StandardCharsets.UTF_8),
                        new String(data, equals + 1, end - equals - 2, StandardCharsets.UTF_8)
                    });
            at = end;
        }
        return found;
    }

    private static int indexOf(byte[] data, char wanted, int from) {
        for (int at = from; at < data.length; at++) {
            if (data[at] == wanted) {
                return at;
            }
        }
        return -1;
    }

    private static long decimal(String text) throws IOException {
        if (text.isEmpty() || text.length() > 18 || !text.chars().allMatch(c -> c >= '0' && c <= '9')) {
            throw new Unpacking.EndedException("a pax header's number cannot be read");
        }
        return Long.parseLong(text);
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.pattern.ConverterKeys;
import org.apache.logging.log4j.core.pattern.LogEventPatternConverter;

/**
 * {@code %escapedRecord} in log4j2.xml: a record's message and its exception, of which nothing can
 * end a line, or tell a terminal what to do, but this class.
 *
 * <p>Names, addresses and texts that clients choose stand in both. Control characters (C0, C1),
 * Unicode's two line ends and halves of surrogate pairs are shown as escapes. log4j's own {@code
 * %enc{CRLF}} knows two of them, and nothing in it looks at an exception's message.
 */
@Plugin(name = "EscapedRecord", category = "Converter")
@ConverterKeys("escapedRecord")
public final class EscapedRecord extends LogEventPatternConverter {

    private static final int MOST_CAUSES = 8;

    private EscapedRecord() {
        super("EscapedRecord", "escapedRecord");
    }

    /** log4j calls it. */
    public static EscapedRecord newInstance(String[] options) {
        return new EscapedRecord();
    }

    @Override
    public void format(LogEvent event, StringBuilder out) {
        append(event.getMessage().getFormattedMessage(), out);
        String prefix = "\n";
        Throwable thrown = event.getThrown();
        for (int count = 0; thrown != null && count < MOST_CAUSES; count++) {
            append(thrown.toString(), out.append(prefix));
            for (StackTraceElement frame : thrown.getStackTrace()) {
                out.append("\n\tat ").append(frame);
            }
            prefix = "\nCaused by: ";
            thrown = thrown.getCause();
        }
    }

    @Override
    public boolean handlesThrowable() {
        return true;
    }

    private static void append(String text, StringBuilder out) {
        for (int at = 0; at < text.length(); at++) {
            char character = text.charAt(at);
            boolean isPair =
                    at + 1 < text.length()
                            && Character.isSurrogatePair(character, text.charAt(at + 1));
            if (isPair) {
                out.append(character).append(text.charAt(++at));
            } else if (isShown(character)) {
                out.append(character);
            } else {
                out.append(escape(character));
            }
        }
    }

    private static boolean isShown(char character) {
        return !Character.isISOControl(character)
                && character != '\u2028'
                && character != '\u2029'
                && !Character.isSurrogate(character);
    }

    private static String escape(char character) {
        switch (character) {
            case '\n':
                return "\\n";
            case '\r':
                return "\\r";
            case '\t':
                return "\\t";
            default:
                return String.format("\\u%04x", (int) character);
        }
    }
}

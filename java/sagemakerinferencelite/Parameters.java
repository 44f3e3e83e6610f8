// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The parameters of a management request, from its query string or a JSON body.
 *
 * <p>Each is asked for with what it may be. A value that it may not be ends the request with 400, by
 * its name, the value, and what was expected. Parameters that nobody asks for are passed over: a
 * platform may send more than this server knows.
 */
final class Parameters {

    /** Java's own syntax, less what has no end: {@code 1e999999999}. MMS takes {@code 8.0} for 8. */
    private static final Pattern WHOLE_NUMBER = Pattern.compile("([+-]?\\d{1,18})(\\.0*)?");

    private static final Pattern UNPRINTABLE = Pattern.compile("[\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}]");

    private static final List<String> FLAGS = Arrays.asList("true", "false");

    /** How much of a bad value is shown. */
    private static final int SHOWN_CHARACTERS = 100;

    private final Map<String, JsonElement> values;

    private Parameters(Map<String, JsonElement> values) {
        this.values = values;
    }

    /** Of the query string. Where a name stands there twice, its first value counts, as with MMS. */
    static Parameters of(QueryStringDecoder query) {
        Map<String, JsonElement> values = new HashMap<>();
        try {
            for (Map.Entry<String, List<String>> each : query.parameters().entrySet()) {
                values.put(each.getKey(), new JsonPrimitive(each.getValue().get(0)));
            }
        } catch (IllegalArgumentException e) {
            throw RequestException.badRequest(
                    "The query string cannot be decoded: " + e.getMessage());
        }
        return new Parameters(values);
    }

    /** Of a body that must be a JSON object in UTF-8. */
    static Parameters of(ByteBuf body) {
        Map<String, JsonElement> values = new HashMap<>();
        for (Map.Entry<String, JsonElement> each : parse(decode(body)).entrySet()) {
            if (!each.getValue().isJsonNull()) {
                values.put(each.getKey(), each.getValue());
            }
        }
        return new Parameters(values);
    }

    private static String decode(ByteBuf body) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(body.nioBuffer()).toString();
        } catch (CharacterCodingException e) {
            throw RequestException.badRequest("The request body is not UTF-8: " + e.getMessage());
        }
    }

    private static JsonObject parse(String text) {
        try {
            JsonElement body = JsonParser.parseString(text);
            if (body.isJsonObject()) {
                return body.getAsJsonObject();
            }
            throw RequestException.badRequest("The request body is not a JSON object.");
        } catch (JsonParseException e) {
            // Where Gson wraps an exception, the inner one says what is wrong, and where.
            Throwable cause = e.getCause() == null ? e : e.getCause();
            boolean isDeep = cause instanceof StackOverflowError;
            throw RequestException.badRequest(
                    "The request body is not JSON: "
                            + (isDeep ? "it is nested too deeply" : cause.getMessage()));
        }
    }

    /** A text of 1 to so many characters on one line; null where there is none. */
    String text(String name, int mostCharacters) {
        JsonElement value = values.get(name);
        if (value == null) {
            return null;
        }
        boolean isText = value.isJsonPrimitive() && value.getAsJsonPrimitive().isString();
        String text = shown(value);
        if (!isText
                || text.isEmpty()
                || text.length() > mostCharacters
                || UNPRINTABLE.matcher(text).find()) {
            throw bad(name, text, "a text of 1 to " + mostCharacters + " printable characters");
        }
        return text;
    }

    /** One of these texts; null where there is none. */
    String oneOf(String name, List<String> choices) {
        JsonElement value = values.get(name);
        if (value == null) {
            return null;
        }
        String text = shown(value);
        if (!choices.contains(text)) {
            throw bad(name, text, String.join(" or ", choices));
        }
        return text;
    }

    int number(String name, int fallback, int least, int most) {
        JsonElement value = values.get(name);
        if (value == null) {
            return fallback;
        }
        Matcher whole = WHOLE_NUMBER.matcher(shown(value));
        long number = whole.matches() ? Long.parseLong(whole.group(1)) : Long.MIN_VALUE;
        if (number < least || number > most) {
            throw bad(name, shown(value), "a whole number from " + least + " to " + most);
        }
        return (int) number;
    }

    boolean flag(String name, boolean fallback) {
        String text = oneOf(name, FLAGS);
        return text == null ? fallback : Boolean.parseBoolean(text);
    }

    /** A number or a truth value may stand in quotation marks, as with MMS. */
    private static String shown(JsonElement value) {
        return value.isJsonPrimitive() ? value.getAsString() : value.toString();
    }

    /** A text of whoever's, on one line and of so many characters at the most. */
    static String shown(String text, int mostCharacters) {
        String shown =
                text.length() <= mostCharacters ? text : text.substring(0, mostCharacters) + "...";
        return UNPRINTABLE.matcher(shown).replaceAll("?");
    }

    static RequestException bad(String name, String value, String expected) {
        return RequestException.badRequest(
                "Parameter "
                        + name
                        + " is \""
                        + shown(value, SHOWN_CHARACTERS)
                        + "\"; expected "
                        + expected
                        + ".");
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.regex.Pattern;

/**
 * Which names a model may have: those by which it can be asked for again.
 *
 * <p>A name is one segment of a path in every other request, so it must survive being escaped there
 * and read again, by us and by what lies between. {@code .} and {@code ..} do not: clients take them
 * for a way through the path (RFC 3986, 5.2.4). U+FFFD is what text turns into that was not UTF-8.
 */
final class ModelName {

    static final int MOST_CHARACTERS = 256;

    private static final Pattern NOT_IN_A_NAME =
            Pattern.compile(
                    "[/\\\\?#%\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}\\uFFFD]|^\\p{Zs}|\\p{Zs}$|^\\.\\.?$");

    private static final String EXPECTED =
            "1 to "
                    + MOST_CHARACTERS
                    + " characters, other than . and .., none of them / \\ ? # %, a control"
                    + " character, a line end or half of a surrogate pair, and no space at either end";

    private ModelName() {}

    /** Where the model is asked for: a path that survives a shell and a client. */
    static String path(String name) {
        try {
            return new URI(null, null, "/models/" + name, null).toASCIIString();
        } catch (URISyntaxException e) {
            return "/models/" + name;
        }
    }

    /** Returns the name; throws where it is none. */
    static String checked(String name) {
        if (name.isEmpty()
                || name.length() > MOST_CHARACTERS
                || NOT_IN_A_NAME.matcher(name).find()) {
            throw Parameters.bad("model_name", name, EXPECTED);
        }
        return name;
    }
}

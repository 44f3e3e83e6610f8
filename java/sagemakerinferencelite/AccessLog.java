// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.channel.Channel;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.util.AttributeKey;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicInteger;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The line of a request: {@code 127.0.0.1:46680 "POST /invocations HTTP/1.1" 200 3 ms, request 5c1f...}.
 *
 * <p>SAGEMAKER_MODEL_SERVER_ACCESS_LOG says which requests have one. Of GET /ping, which a platform
 * asks every few seconds, only the answers have one that differ from the one before.
 */
final class AccessLog {

    /** Which requests have a line. */
    private enum Which {
        NONE,
        ERRORS,
        ALL
    }

    /** The model that a connection's request is for, where its path does not say so. */
    private static final AttributeKey<String> MODEL = AttributeKey.valueOf("model");

    private static final Logger LOG = LoggerFactory.getLogger("access");
    private static final Which WHICH =
            Which.valueOf(Setting.optional("access_log", "errors").toUpperCase(Locale.ROOT));
    private static final int FIRST_FAILURE = 400;
    /** How much of an address is shown. */
    private static final int MOST_CHARACTERS = 300;

    private static final AtomicInteger LAST_PING = new AtomicInteger();

    private final Channel channel;
    private final String method;
    private final String uri;
    private final String protocol;
    private final long begunNs = System.nanoTime();

    AccessLog(Channel channel, HttpRequest request) {
        this.channel = channel;
        method = request.method().name();
        uri = request.uri();
        protocol = request.protocolVersion().text();
    }

    /** Has the line of the request that a connection is busy with name a model. */
    static void name(Channel channel, String model) {
        if (WHICH != Which.NONE) {
            channel.attr(MODEL).set(model);
        }
    }

    /**
     * Writes the line, if there is to be one.
     *
     * @param requestId null where it has none
     */
    void answered(int status, String requestId) {
        String model = WHICH == Which.NONE ? null : channel.attr(MODEL).getAndSet(null);
        boolean isNews = !isPing() || LAST_PING.getAndSet(status) != status;
        if (isNews && (WHICH == Which.ALL || WHICH == Which.ERRORS && status >= FIRST_FAILURE)) {
            LOG.info("{} {} ms{}{}", line(), milliseconds(status), model(model), id(requestId));
        }
    }

    /** The client has gone before it had an answer. */
    void abandoned() {
        if (WHICH == Which.ALL) {
            LOG.info("{} {} ms, the client has gone", line(), milliseconds("-"));
        }
    }

    private boolean isPing() {
        return uri.startsWith("/ping")
                && (uri.length() == 5 || uri.charAt(5) == '?' || uri.charAt(5) == '/')
                && (method.equals("GET") || method.equals("HEAD"));
    }

    private String line() {
        String client = String.valueOf(channel.remoteAddress());
        String shown =
                uri.length() <= MOST_CHARACTERS ? uri : uri.substring(0, MOST_CHARACTERS) + "...";
        return (client.startsWith("/") ? client.substring(1) : client)
                + " \""
                + method
                + " "
                + shown
                + " "
                + protocol
                + "\"";
    }

    private String milliseconds(Object status) {
        return status + " " + (System.nanoTime() - begunNs) / 1_000_000;
    }

    private static String model(String name) {
        return name == null ? "" : ", model " + name;
    }

    private static String id(String requestId) {
        return requestId == null ? "" : ", request " + requestId;
    }
}

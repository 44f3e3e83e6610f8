// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.channel.Channel;
import io.netty.handler.codec.http.HttpRequest;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The line of a request that failed, in the form of MMS's (Session.java). Others have none. */
final class AccessLog {

    private static final Logger LOG = LoggerFactory.getLogger("ACCESS_LOG");
    private static final int FIRST_FAILURE = 400;

    private final Channel channel;
    private final String method;
    private final String uri;
    private final String protocol;
    private final long begunMs = System.currentTimeMillis();

    AccessLog(Channel channel, HttpRequest request) {
        this.channel = channel;
        method = request.method().name();
        uri = request.uri();
        protocol = request.protocolVersion().text();
    }

    void answered(int status) {
        if (status >= FIRST_FAILURE) {
            long milliseconds = System.currentTimeMillis() - begunMs;
            LOG.info(
                    "{} \"{} {} {}\" {} {}",
                    channel.remoteAddress(),
                    method,
                    uri,
                    protocol,
                    status,
                    milliseconds);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.ModelServer;
import com.amazonaws.ml.mms.ServerInitializer;
import com.amazonaws.ml.mms.servingsdk.impl.PluginsManager;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.util.Connector;
import com.amazonaws.ml.mms.util.ConnectorType;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.handler.ssl.SslContext;
import io.netty.util.internal.logging.InternalLoggerFactory;
import io.netty.util.internal.logging.Slf4JLoggerFactory;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.commons.cli.DefaultParser;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.util.StackLocatorUtil;

/**
 * Multi Model Server's front end as a well-behaved child process.
 *
 * <p>It takes the arguments of {@link ModelServer#main} and differs from it in this:
 *
 * <ul>
 *   <li>{@code Model server started.} on standard output means that every listener is bound.
 *   <li>A failure to start is one line on standard error and exit status 1.
 *   <li>Standard input is the parent's command channel. Nothing listens and no model is loaded
 *       before a line {@code start}, so that this process can get ready while the parent readies
 *       what it needs. A line {@code drain} makes the process answer what it has taken, refuse what
 *       comes after (see {@link Traffic}) and exit with status 0; the parent bounds the time by
 *       killing it. End of file means that the parent is gone: the process halts at once.
 *   <li>No metrics collector runs: {@code startAndWait()}, which schedules it, is not called, so
 *       no Python process is started every minute (MMS: ModelServer.java, MetricManager.java).
 * </ul>
 */
public final class FrontEnd extends ModelServer {

    private static final CountDownLatch START_REQUESTED = new CountDownLatch(1);
    private static final CountDownLatch DRAIN_REQUESTED = new CountDownLatch(1);

    private final Traffic traffic = new Traffic();

    private FrontEnd(ConfigManager config) {
        super(config);
    }

    public static void main(String[] args) {
        try {
            // First of all: a parent that is gone must not find files in its directory later.
            readCommands();
            findCallersQuietly();
            DefaultParser parser = new DefaultParser();
            ConfigManager.init(
                    new ConfigManager.Arguments(
                            parser.parse(ConfigManager.Arguments.getOptions(), args, null, false)));
            PluginsManager.getInstance().initialize();
            // Not earlier: it starts log4j, and ConfigManager may ask for asynchronous logging.
            InternalLoggerFactory.setDefaultFactory(Slf4JLoggerFactory.INSTANCE);

            FrontEnd frontEnd = new FrontEnd(ConfigManager.getInstance());
            START_REQUESTED.await();
            frontEnd.start();
            System.out.println("Model server started.");
            DRAIN_REQUESTED.await();
            frontEnd.traffic.drain();
            exit(0);
        } catch (Throwable t) {
            System.err.println("The front end did not start: " + reason(t));
            exit(1);
        }
    }

    /**
     * {@inheritDoc}
     *
     * <p>Unlike MMS (ModelServer.java, initializeServer), connections keep the default SO_LINGER,
     * because a linger of 0 turns each close into a reset that can overtake an error's body; and
     * they keep Netty's adaptive receive buffer, because a fixed one of 4 KB cuts a large request
     * into thousands of reads. They are not registered for MMS's own stop(), which is never called.
     */
    @Override
    public ChannelFuture initializeServer(
            Connector connector,
            EventLoopGroup serverGroup,
            EventLoopGroup workerGroup,
            ConnectorType type)
            throws InterruptedException, IOException, GeneralSecurityException {
        SslContext ssl = connector.isSsl() ? ConfigManager.getInstance().getSslContext() : null;
        ServerBootstrap bootstrap =
                new ServerBootstrap()
                        .group(serverGroup, workerGroup)
                        .channel(connector.getServerChannel())
                        .option(ChannelOption.SO_BACKLOG, 1024)
                        .childHandler(
                                new Initializer(
                                        ssl,
                                        type,
                                        traffic,
                                        Setting.number("unload_seconds", "60")));
        if (!connector.isUds()) {
            bootstrap.childOption(ChannelOption.SO_KEEPALIVE, true);
        }
        ChannelFuture bind = bootstrap.bind(connector.getSocketAddress()).await();
        if (!bind.isSuccess()) {
            throw new IOException("cannot listen on " + connector, bind.cause());
        }
        traffic.addListener(bind.channel());
        return bind.channel().closeFuture();
    }

    /**
     * Lets log4j choose how it finds callers, without the warning that it prints to standard output
     * on Java 9 and later: MMS's jar lacks the attribute that would show it the faster way
     * (Multi-Release). No line of ours says where it was logged, so it makes no difference.
     */
    private static void findCallersQuietly() {
        PrintStream out = System.out;
        System.setOut(new PrintStream(new ByteArrayOutputStream()));
        try {
            StackLocatorUtil.getCallerClass(1);
        } finally {
            System.setOut(out);
        }
    }

    private static void readCommands() {
        Thread reader =
                new Thread(
                        () -> {
                            try (BufferedReader commands =
                                    new BufferedReader(
                                            new InputStreamReader(
                                                    System.in, StandardCharsets.UTF_8))) {
                                String line;
                                while ((line = commands.readLine()) != null) {
                                    if (line.equals("start")) {
                                        START_REQUESTED.countDown();
                                    } else if (line.equals("drain")) {
                                        DRAIN_REQUESTED.countDown();
                                    }
                                }
                            } catch (IOException e) {
                                // Unreadable is as good as closed: the parent cannot be heard.
                            } finally {
                                Runtime.getRuntime().halt(1);
                            }
                        },
                        "commands");
        reader.setDaemon(true);
        reader.start();
    }

    /** Says what went wrong, with its causes, on one line. */
    private static String reason(Throwable t) {
        List<String> reasons = new ArrayList<>();
        for (Throwable cause = t; cause != null; cause = cause.getCause()) {
            String message = cause.getMessage();
            String text = message == null ? cause.getClass().getSimpleName() : message;
            // A wrapper made without a message of its own repeats its cause's.
            if (reasons.isEmpty() || !reasons.get(reasons.size() - 1).contains(text)) {
                reasons.add(text);
            }
        }
        return String.join(": ", reasons).replaceAll("\\s*[\\r\\n]+\\s*", " ");
    }

    /** Ends the JVM; returning from main would not, as MMS's threads are not daemons. */
    private static void exit(int status) {
        LogManager.shutdown();
        System.out.flush();
        System.err.flush();
        Runtime.getRuntime().halt(status);
    }

    /** MMS's pipeline with this package's handlers in it. */
    private static final class Initializer extends ServerInitializer {

        private final boolean management;
        private final Traffic traffic;
        private final int unloadSeconds;

        Initializer(SslContext ssl, ConnectorType type, Traffic traffic, int unloadSeconds) {
            super(ssl, type);
            management = type != ConnectorType.INFERENCE_CONNECTOR;
            this.traffic = traffic;
            this.unloadSeconds = unloadSeconds;
        }

        @Override
        public void initChannel(Channel channel) {
            super.initChannel(channel);
            traffic.addConnection(channel);
            int maxBody = ConfigManager.getInstance().getMaxRequestSize();
            channel.pipeline().addAfter("http", "guard", new RequestGuard(traffic, maxBody));
            if (management) {
                channel.pipeline()
                        .addBefore(
                                "handler",
                                "departure",
                                new ModelDeparture(traffic, unloadSeconds));
                channel.pipeline().addBefore("handler", "load", LoadRequestCheck.INSTANCE);
            }
        }
    }
}

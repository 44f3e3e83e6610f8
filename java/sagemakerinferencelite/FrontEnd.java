// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.ModelServer;
import com.amazonaws.ml.mms.http.ApiDescriptionRequestHandler;
import com.amazonaws.ml.mms.http.HttpRequestHandler;
import com.amazonaws.ml.mms.http.HttpRequestHandlerChain;
import com.amazonaws.ml.mms.http.InferenceRequestHandler;
import com.amazonaws.ml.mms.http.InvalidRequestHandler;
import com.amazonaws.ml.mms.http.ManagementRequestHandler;
import com.amazonaws.ml.mms.servingsdk.impl.PluginsManager;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.util.Connector;
import com.amazonaws.ml.mms.util.ConnectorType;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.AdaptiveRecvByteBufAllocator;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.handler.ssl.SslContext;
import io.netty.util.concurrent.DefaultEventExecutorGroup;
import io.netty.util.concurrent.EventExecutorGroup;
import io.netty.util.internal.logging.InternalLoggerFactory;
import io.netty.util.internal.logging.Slf4JLoggerFactory;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.commons.cli.DefaultParser;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.util.StackLocatorUtil;

/**
 * Multi Model Server's front end as a well-behaved child process, with workers of our own.
 *
 * <p>It takes the arguments of {@link ModelServer#main} and is made of MMS's HTTP pipeline,
 * management interface, configuration and plugins. It differs in this:
 *
 * <ul>
 *   <li>Requests for predictions go from {@link InvocationHandler} to {@link WorkerPools}.
 *   <li>One group of event loops serves clients and workers, so that a request whose client and
 *       worker are on the same loop wakes no other thread up. The management interface has threads
 *       of its own, and so has the reading of models' files (see {@link ReadingThreads}): neither
 *       waits for the other, and /ping for none of them.
 *   <li>Nothing is printed at the start: that the models are ready is for others to say.
 *   <li>A failure to start is one line on standard error and exit status 1.
 *   <li>Standard input is the parent's command channel. A line {@code reload} replaces the workers
 *       of all models. Nothing listens and no model is loaded
 *       before a line {@code start}, so that this process can get ready while the parent readies
 *       what it needs. A line {@code drain} makes the process answer what it has taken, refuse what
 *       comes after (see {@link InFlight}) and exit with status 0; the parent bounds the time by
 *       killing it. End of file means that the parent is gone: the process halts at once.
 *   <li>No metrics collector runs, so no Python process is started every minute (MMS:
 *       MetricManager.java).
 * </ul>
 */
public final class FrontEnd {

    private static final CountDownLatch START_REQUESTED = new CountDownLatch(1);
    private static final CountDownLatch DRAIN_REQUESTED = new CountDownLatch(1);

    /** Replaces the workers of all models; nothing before there are any. */
    private static volatile Runnable reload = () -> {};

    private static final int MANAGEMENT_THREADS = 2;

    /** Netty's own limits for a request's head, and a piece of a body that is as large as it is read. */
    private static final int MAX_LINE_BYTES = 4096;

    private static final int MAX_HEADER_BYTES = 8192;

    /** The most that is read at once: a body of megabytes comes in few pieces. */
    private static final int MAX_READ_BYTES = 1 << 18;

    private final ConfigManager config;
    private final InFlight traffic = new InFlight();
    private final EventLoopGroup loops;
    private final EventExecutorGroup management =
            new DefaultEventExecutorGroup(MANAGEMENT_THREADS);
    private final WorkerPools workers;
    private final Models models;
    private final boolean multiModel = Boolean.parseBoolean(Setting.required("multi_model"));
    private final Readiness readiness = new Readiness();
    private final String stateDir = Setting.required("state_dir");

    private FrontEnd(ConfigManager config) {
        this.config = config;
        loops = Connector.newEventLoopGroup(config.getNettyThreads());
        workers =
                new WorkerPools(
                        config,
                        loops,
                        new DomainSocketAddress(stateDir + "/workers.sock"));
        ModelManager.init(config, workers);
        models = new Models(config, workers, loops);
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
            Epoll.ensureAvailability();

            FrontEnd frontEnd = new FrontEnd(ConfigManager.getInstance());
            START_REQUESTED.await();
            frontEnd.start();
            reload = frontEnd.models::reload;
            DRAIN_REQUESTED.await();
            frontEnd.traffic.drain();
            exit(0);
        } catch (Throwable t) {
            say(System.err, "The front end did not start: " + reason(t));
            exit(1);
        }
    }

    private void start() throws IOException, GeneralSecurityException, InterruptedException {
        config.validateConfigurations();
        if (!multiModel) {
            readiness.listen(loops, stateDir + "/ready.sock");
        }
        new StartupModels(config, models, !multiModel).load();
        Connector inference = config.getListener(false);
        Connector managed = config.getListener(true);
        if (inference.equals(managed)) {
            listen(inference, ConnectorType.BOTH);
        } else {
            listen(inference, ConnectorType.INFERENCE_CONNECTOR);
            listen(managed, ConnectorType.MANAGEMENT_CONNECTOR);
        }
        // The parent looks for it: to connect would tell it no more than that somebody listens there.
        Files.createFile(new File(stateDir, "listening").toPath());
    }

    /**
     * Unlike MMS (ModelServer.java, initializeServer), connections keep the default SO_LINGER,
     * because a linger of 0 turns each close into a reset that can overtake an error's body; and
     * they read into a buffer that adapts, because a fixed one of 4 KB cuts a large request into
     * thousands of reads.
     */
    private void listen(Connector connector, ConnectorType type)
            throws IOException, GeneralSecurityException, InterruptedException {
        connector.clean();
        SslContext ssl = connector.isSsl() ? config.getSslContext() : null;
        ServerBootstrap bootstrap =
                new ServerBootstrap()
                        .group(loops)
                        .channel(connector.getServerChannel())
                        .option(ChannelOption.SO_BACKLOG, 1024)
                        .childOption(
                                ChannelOption.RCVBUF_ALLOCATOR,
                                new AdaptiveRecvByteBufAllocator(64, 2048, MAX_READ_BYTES))
                        .childHandler(new Initializer(ssl, type));
        if (!connector.isUds()) {
            bootstrap.childOption(ChannelOption.SO_KEEPALIVE, true);
        }
        ChannelFuture bind = bootstrap.bind(connector.getSocketAddress()).await();
        if (!bind.isSuccess()) {
            throw new IOException("cannot listen on " + connector, bind.cause());
        }
        traffic.addListener(bind.channel());
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
                                    } else if (line.equals("reload")) {
                                        reload.run();
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

    /** In one piece, as println() does it from Java 17 on: the parent writes to the same stream. */
    private static void say(PrintStream stream, String line) {
        stream.print(line + "\n");
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

    /** MMS's pipeline (ServerInitializer.java) with this package's handlers in it. */
    private final class Initializer extends ChannelInitializer<Channel> {

        private final SslContext ssl;
        private final ConnectorType type;
        private final ModelRequests modelRequests = new ModelRequests(models, config);
        private final NoModelRequests noModelRequests = new NoModelRequests();
        private final Ping ping = new Ping(() -> multiModel || readiness.isReady());

        Initializer(SslContext ssl, ConnectorType type) {
            this.ssl = ssl;
            this.type = type;
        }

        @Override
        public void initChannel(Channel channel) {
            traffic.addConnection(channel);
            int maxBody = config.getMaxRequestSize();
            ChannelPipeline pipeline = channel.pipeline();
            if (ssl != null) {
                pipeline.addLast(ssl.newHandler(channel.alloc()));
            }
            pipeline.addLast(
                    new HttpCodec(MAX_LINE_BYTES, MAX_HEADER_BYTES, MAX_READ_BYTES),
                    new AdmissionHandler(traffic, maxBody),
                    new InvocationHandler(workers));
            if (type != ConnectorType.MANAGEMENT_CONNECTOR) {
                pipeline.addLast(ping);
            }
            if (type != ConnectorType.INFERENCE_CONNECTOR && !isTakenByPlugin("models")) {
                pipeline.addLast(management, modelRequests);
            } else if (!multiModel) {
                pipeline.addLast(noModelRequests);
            }
            pipeline.addLast(management, new HttpRequestHandler(handlers()));
        }

        private boolean isTakenByPlugin(String path) {
            return PluginsManager.getInstance().getManagementEndpoints().containsKey(path);
        }

        private HttpRequestHandlerChain handlers() {
            HttpRequestHandlerChain first = new ApiDescriptionRequestHandler(type);
            HttpRequestHandlerChain last = first;
            if (type != ConnectorType.MANAGEMENT_CONNECTOR) {
                last =
                        last.setNextHandler(
                                new InferenceRequestHandler(
                                        PluginsManager.getInstance().getInferenceEndpoints()));
            }
            if (type != ConnectorType.INFERENCE_CONNECTOR) {
                last =
                        last.setNextHandler(
                                new ManagementRequestHandler(
                                        PluginsManager.getInstance().getManagementEndpoints()));
            }
            last.setNextHandler(new InvalidRequestHandler());
            return first;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.WorkerState;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.bootstrap.Bootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoop;
import io.netty.channel.epoll.EpollDomainSocketChannel;
import io.netty.handler.codec.CorruptedFrameException;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.net.SocketAddress;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A connection to a process that has one model loaded, or is about to.
 *
 * <p>It is made for good: where it ends, or the load fails, it is made again after a while, until
 * {@link #shutdown}. For MMS it is one of its own workers, whose thread never runs: what takes a
 * thread there, and two hand-overs a request, is done here by the event loop of the connection.
 */
final class WorkerConnection extends WorkerThread {

    private static final Logger LOG = LoggerFactory.getLogger(WorkerConnection.class);

    /** MMS's (WorkerThread.java), up to a minute. */
    private static final int[] BACK_OFF_SECONDS = {0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 60};

    /** From this pause on, requests are not kept waiting for it. */
    private static final int RESTING_SECONDS = 2;

    /** One that was loaded for so long without a request has not failed again because of its load. */
    private static final long STEADY_NS = TimeUnit.SECONDS.toNanos(60);

    /** Enough for what the kernel lets a socket of another user's hold; it takes less where it must. */
    private static final int SEND_BUFFER_BYTES = 1 << 20;

    private final Model model;
    private final WorkerPool owner;
    private final EventLoop loop;
    private final SocketAddress address;
    private final int gpu;
    private final int number;
    private final long maxAnswer;
    private final long createdMs = System.currentTimeMillis();

    private volatile WorkerState state = WorkerState.WORKER_STARTED;
    private volatile Channel channel;
    private final Generation generation;
    private volatile int pid = -1;
    /** When what it is busy with was sent to it, on System.nanoTime()'s clock; 0: with nothing. */
    private volatile long busySinceNs;

    /** In a row: an answer ends it, a load does not. Used on the event loop alone, like the two below. */
    private int failures;

    private boolean hasAnswered;
    private long loadedNs;

    /** What it is to answer; null: nothing. Written while {@link #owner} is held. */
    volatile List<Invocation> batch;

    WorkerConnection(
            Model model,
            WorkerPool owner,
            EventLoop loop,
            SocketAddress address,
            int gpu,
            int number,
            Generation generation) {
        super(ConfigManager.getInstance(), loop, number, gpu, model, null, null, number, false);
        this.model = model;
        this.owner = owner;
        this.loop = loop;
        this.address = address;
        this.gpu = gpu;
        this.number = number;
        this.generation = generation;
        maxAnswer =
                ((long) ConfigManager.getInstance().getMaxResponseSize() + Frames.HEADROOM_BYTES)
                        * Math.max(1, model.getBatchSize());
    }

    // -- What MMS asks (ManagementRequestHandler.java, ModelWorker.java) --

    @Override
    public WorkerState getState() {
        return state;
    }

    @Override
    public String getWorkerId() {
        return String.valueOf(number);
    }

    @Override
    public boolean isRunning() {
        return state == WorkerState.WORKER_MODEL_LOADED;
    }

    @Override
    public int getGpuId() {
        return gpu;
    }

    @Override
    public long getStartTime() {
        return createdMs;
    }

    @Override
    public int getPid() {
        return pid;
    }

    @Override
    public void run() {
        throw new UnsupportedOperationException("a worker has no thread");
    }

    // -- Connection --

    EventLoop loop() {
        return loop;
    }

    void connect() {
        SureReads reads = new SureReads();
        Bootstrap bootstrap =
                new Bootstrap()
                        .group(loop)
                        .channel(EpollDomainSocketChannel.class)
                        .option(ChannelOption.SO_SNDBUF, SEND_BUFFER_BYTES)
                        .option(ChannelOption.RCVBUF_ALLOCATOR, reads)
                        .handler(new Answers());
        bootstrap
                .connect(address)
                .addListener(
                        (ChannelFuture made) -> {
                            made.channel().closeFuture().addListener(closed -> reads.end());
                            if (!made.isSuccess()) {
                                lost("it cannot be connected to: " + made.cause());
                            }
                        });
    }

    /** Ends it for good. */
    @Override
    public void shutdown() {
        synchronized (this) {
            state = WorkerState.WORKER_SCALED_DOWN;
        }
        Channel current = channel;
        if (current != null) {
            current.close();
        }
    }

    /** Changes the state, unless it has been ended for good; whether it is so now. */
    private synchronized boolean become(WorkerState next) {
        if (isShutDown()) {
            return false;
        }
        state = next;
        return true;
    }

    boolean isShutDown() {
        return state == WorkerState.WORKER_SCALED_DOWN;
    }

    private void lost(String why) {
        busySinceNs = 0;
        channel = null;
        boolean wasLoaded = isRunning();
        if (wasLoaded && (hasAnswered || System.nanoTime() - loadedNs > STEADY_NS)) {
            failures = 0;
        }
        hasAnswered = false;
        become(WorkerState.WORKER_ERROR);
        owner.lost(this, !wasLoaded && !isShutDown(), why);
        if (!isShutDown()) {
            connectLater(BACK_OFF_SECONDS[Math.min(failures++, BACK_OFF_SECONDS.length - 1)], why);
        }
    }

    private void connectLater(int seconds, String why) {
        LOG.warn(
                "worker {} of model {} is lost, and made anew in {} s: {}",
                number,
                model.getModelName(),
                seconds,
                why);
        if (seconds >= RESTING_SECONDS) {
            owner.rests(this);
        }
        loop.schedule(
                () -> {
                    owner.restsNoLonger(this);
                    if (become(WorkerState.WORKER_STARTED)) {
                        connect();
                    }
                },
                seconds,
                TimeUnit.SECONDS);
    }

    /** Sends it what is in {@link #batch}. */
    void send(List<Invocation> requests) {
        if (loop.inEventLoop()) {
            sendNow(requests);
        } else {
            loop.execute(() -> sendNow(requests));
        }
    }

    private void sendNow(List<Invocation> requests) {
        // Where the connection was lost in between they have been answered, on this thread.
        if (batch == requests) {
            busySinceNs = System.nanoTime();
            Invocation.send(requests, channel);
        }
    }

    /** Ends the connection where an answer takes longer than its model may; a load has a limit of its own. */
    void checkLimit(long nowNs) {
        long since = busySinceNs;
        Channel current = channel;
        if (since != 0
                && isRunning()
                && current != null
                && nowNs - since > TimeUnit.SECONDS.toNanos(model.getResponseTimeoutSeconds())) {
            LOG.error(
                    "worker {} of model {} did not respond within {} seconds",
                    number,
                    model.getModelName(),
                    model.getResponseTimeoutSeconds());
            current.close();
        }
    }

    /** Reads what the worker says. */
    private final class Answers extends ChannelInboundHandlerAdapter implements FrameReader.Taker {

        private final FrameReader frames = new FrameReader(this, maxAnswer);
        /** Why the model is not loaded; null unless the worker has said so. */
        private String refusal;

        @Override
        public void channelActive(ChannelHandlerContext ctx) {
            channel = ctx.channel();
            if (isShutDown()) {
                ctx.close();
                return;
            }
            ByteBuf load = ctx.alloc().directBuffer();
            Manifest manifest = model.getModelArchive().getManifest();
            Frames.writeLoad(
                    load,
                    model.getModelName(),
                    model.getModelDir().getAbsolutePath(),
                    Math.max(1, model.getBatchSize()),
                    manifest.getModel().getHandler(),
                    gpu,
                    generation);
            busySinceNs = System.nanoTime();
            ctx.writeAndFlush(load, ctx.voidPromise());
        }

        @Override
        public void channelRead(ChannelHandlerContext ctx, Object msg) {
            ByteBuf piece = (ByteBuf) msg;
            try {
                frames.read(piece, ctx.alloc());
            } finally {
                piece.release();
            }
        }

        @Override
        public void drop(byte kind, long bytes) {
            busySinceNs = 0;
            if (kind != Frames.ANSWERS || !isRunning()) {
                throw new CorruptedFrameException("an answer of an unexpected kind, " + kind);
            }
            owner.dropped(WorkerConnection.this, bytes);
        }

        @Override
        public void take(ByteBuf frame) {
            busySinceNs = 0;
            frame.skipBytes(Frames.LENGTH_BYTES);
            byte kind = frame.readByte();
            if (kind == Frames.ANSWERS && isRunning()) {
                hasAnswered = true;
                owner.answered(WorkerConnection.this, frame);
            } else if (kind == Frames.LOADED && !isRunning()) {
                pid = frame.readInt();
                loadedNs = System.nanoTime();
                if (become(WorkerState.WORKER_MODEL_LOADED)) {
                    owner.loaded(WorkerConnection.this);
                }
            } else if (kind == Frames.FAILED && !isRunning()) {
                HttpResponseStatus status = Frames.readStatus(frame);
                refusal = Frames.readText(frame);
                String errorId = Frames.readText(frame);
                String trace = Frames.readText(frame);
                owner.loadFailed(
                        WorkerConnection.this, RequestException.logged(status, refusal, errorId, trace));
                channel.close();
            } else {
                throw new CorruptedFrameException("an answer of an unexpected kind, " + kind);
            }
        }

        @Override
        public void channelInactive(ChannelHandlerContext ctx) {
            frames.close();
            lost(refusal == null ? "its connection has ended" : refusal);
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
            LOG.info("worker {} of model {}: {}", number, model.getModelName(), cause.toString());
            ctx.close();
        }
    }
}

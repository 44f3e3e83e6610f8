// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import com.amazonaws.ml.mms.archive.Manifest;
import com.amazonaws.ml.mms.http.DescribeModelResponse;
import com.amazonaws.ml.mms.http.ListModelsResponse;
import com.amazonaws.ml.mms.http.StatusResponse;
import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.util.JsonUtils;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import com.amazonaws.ml.mms.wlm.WorkerThread;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.util.CharsetUtil;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Answers /models and /models/NAME, in the shapes of MMS's answers (ManagementRequestHandler.java).
 * All other requests pass through.
 *
 * <p>Nothing here waits, for a disk or for a model: loads have {@link ReadingThreads} of their own.
 */
@Sharable
final class ModelRequests extends ChannelInboundHandlerAdapter {

    private static final Logger LOG = LoggerFactory.getLogger(ModelRequests.class);

    private static final int MOST_LOAD_BYTES = 1 << 16;
    /** MMS's largest page, and the usual one. */
    private static final int MOST_LISTED = 100;

    private static final int MOST_TIMEOUT_SECONDS = 86_400;
    private static final HttpResponseStatus PARTIAL_SUCCESS =
            new HttpResponseStatus(210, "Partial Success");

    private final Models models;
    private final WorkerPools workers;
    private final ConfigManager config;

    ModelRequests(Models models, ConfigManager config) {
        this.models = models;
        workers = models.workers();
        this.config = config;
    }

    /** A status, and what becomes JSON. */
    private static final class Answer {
        private final HttpResponseStatus status;
        private final Object content;

        Answer(HttpResponseStatus status, Object content) {
            this.status = status;
            this.content = content;
        }

        static Answer of(HttpResponseStatus status, String text) {
            return new Answer(status, new StatusResponse(text));
        }

        CompletableFuture<Answer> now() {
            return CompletableFuture.completedFuture(this);
        }
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        String[] segments = Paths.segments(request);
        boolean isOurs = segments.length == 2 || segments.length == 3;
        if (!isOurs || !segments[1].equals("models")) {
            ctx.fireChannelRead(request);
            return;
        }
        try {
            String name = segments.length == 3 ? segments[2] : null;
            handle(ctx.channel(), request, name)
                    .whenComplete((answer, error) -> respond(ctx.channel(), answer, error));
        } catch (RuntimeException e) {
            respond(ctx.channel(), null, e);
        } finally {
            request.release();
        }
    }

    private CompletableFuture<Answer> handle(
            Channel channel, FullHttpRequest request, String name) {
        QueryStringDecoder query = new QueryStringDecoder(request.uri());
        HttpMethod method = request.method();
        if (name == null && HttpMethod.POST.equals(method)) {
            return load(channel, request, query);
        }
        Parameters parameters = Parameters.of(query);
        if (HttpMethod.GET.equals(method)) {
            return (name == null ? list(parameters) : describe(name)).now();
        }
        if (name != null && HttpMethod.PUT.equals(method)) {
            return scale(name, parameters);
        }
        if (name != null && HttpMethod.DELETE.equals(method)) {
            return unload(name, parameters);
        }
        throw new RequestException(
                HttpResponseStatus.METHOD_NOT_ALLOWED,
                "MethodNotAllowedException",
                "Requested method is not allowed, please refer to API document.");
    }

    // -- POST --

    /** Takes the parameters of a JSON body, else those of the query string, as MMS does. */
    private CompletableFuture<Answer> load(
            Channel channel, FullHttpRequest request, QueryStringDecoder query) {
        if (request.content().readableBytes() > MOST_LOAD_BYTES) {
            throw new RequestException(
                    HttpResponseStatus.REQUEST_ENTITY_TOO_LARGE,
                    "RequestTooLargeException",
                    "A load request has at most " + MOST_LOAD_BYTES + " bytes.");
        }
        boolean isJson =
                HttpHeaderValues.APPLICATION_JSON.contentEqualsIgnoreCase(
                        HttpUtil.getMimeType(request));
        Parameters given = isJson ? Parameters.of(request.content()) : Parameters.of(query);
        LoadRequestCheck wanted = new LoadRequestCheck(given, config);
        if (wanted.name != null) {
            AccessLog.name(channel, wanted.name);
        }
        return models.load(wanted).thenCompose(loading -> answer(wanted, loading));
    }

    private static CompletableFuture<Answer> answer(LoadRequestCheck wanted, Models.Loading loading) {
        if (loading.workers == null) {
            String text = "Model \"" + loading.name + "\" registered";
            return Answer.of(HttpResponseStatus.OK, text).now();
        }
        return answer(wanted.synchronous, loading.workers);
    }

    private static CompletableFuture<Answer> answer(
            boolean synchronous, CompletableFuture<Boolean> scaled) {
        // What has failed already is told all the same.
        if (!synchronous && !scaled.isCompletedExceptionally()) {
            return Answer.of(HttpResponseStatus.ACCEPTED, "Processing worker updates...").now();
        }
        return scaled.thenApply(
                complete ->
                        complete
                                ? Answer.of(HttpResponseStatus.OK, "Workers scaled")
                                : Answer.of(PARTIAL_SUCCESS, "Workers scaling in progress..."));
    }

    // -- GET --

    private Answer list(Parameters parameters) {
        int limit = parameters.number("limit", MOST_LISTED, 1, MOST_LISTED);
        int begin = parameters.number("next_page_token", 0, 0, Integer.MAX_VALUE);
        List<WorkerPool> all = workers.sorted();
        ListModelsResponse page = new ListModelsResponse();
        int end = (int) Math.min((long) begin + limit, all.size());
        for (int i = begin; i < end; i++) {
            page.addModel(all.get(i).name(), all.get(i).archive().getUrl());
        }
        if (end < all.size()) {
            page.setNextPageToken(String.valueOf(end));
        }
        return new Answer(HttpResponseStatus.OK, page);
    }

    private Answer describe(String name) {
        WorkerPool found = workers.of(name);
        if (found == null) {
            throw workers.unknown(name);
        }
        Model model = found.model();
        DescribeModelResponse description = new DescribeModelResponse();
        description.setModelName(name);
        description.setModelUrl(model.getModelUrl());
        description.setBatchSize(model.getBatchSize());
        description.setMaxBatchDelay(model.getMaxBatchDelay());
        description.setMinWorkers(model.getMinWorkers());
        description.setMaxWorkers(model.getMaxWorkers());
        description.setLoadedAtStartup(ModelManager.getInstance().getStartupModels().contains(name));
        describeManifest(description, model.getModelArchive().getManifest());
        for (WorkerThread each : found.workers()) {
            description.addWorker(
                    each.getWorkerId(),
                    each.getStartTime(),
                    each.isRunning(),
                    each.getGpuId(),
                    each.getMemory());
        }
        return new Answer(HttpResponseStatus.OK, description);
    }

    private static void describeManifest(DescribeModelResponse description, Manifest manifest) {
        if (manifest.getEngine() != null) {
            description.setEngine(manifest.getEngine().getEngineName());
        }
        description.setModelVersion(manifest.getModel().getModelVersion());
        description.setRuntime(manifest.getRuntime().getValue());
    }

    // -- PUT and DELETE --

    private CompletableFuture<Answer> scale(String name, Parameters parameters) {
        int least = parameters.number("min_worker", 1, 0, LoadRequestCheck.MOST_WORKERS);
        int most = parameters.number("max_worker", least, least, LoadRequestCheck.MOST_WORKERS);
        boolean synchronous = parameters.flag("synchronous", false);
        checkTimeout(parameters);
        return answer(synchronous, models.scale(name, least, most));
    }

    private CompletableFuture<Answer> unload(String name, Parameters parameters) {
        parameters.flag("synchronous", true);
        checkTimeout(parameters);
        String text = "Model \"" + name + "\" unregistered";
        return models.unload(name).thenApply(gone -> Answer.of(HttpResponseStatus.OK, text));
    }

    /** MMS documents it, for these two, and heeds it nowhere; -1 is for no limit. */
    private static void checkTimeout(Parameters parameters) {
        parameters.number("timeout", -1, -1, MOST_TIMEOUT_SECONDS);
    }

    // -- Answers --

    private static void respond(Channel channel, Answer answer, Throwable error) {
        String id = Invocation.newId();
        if (error == null) {
            HttpHeaders headers =
                    Responses.headers(id)
                            .set(Responses.CONTENT_TYPE, HttpHeaderValues.APPLICATION_JSON);
            String json = JsonUtils.GSON_PRETTY.toJson(answer.content) + '\n';
            Responses.send(
                    channel,
                    answer.status,
                    headers,
                    Unpooled.copiedBuffer(json, CharsetUtil.UTF_8));
            return;
        }
        RequestException known = RequestException.of(error);
        if (known == null) {
            LOG.error("a management request failed", error);
            known =
                    RequestException.failure(
                            HttpResponseStatus.INTERNAL_SERVER_ERROR,
                            "The request failed; the log has the cause.");
        }
        Responses.sendError(channel, known, id);
    }
}

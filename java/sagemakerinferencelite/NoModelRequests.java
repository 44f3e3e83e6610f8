// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;

/**
 * Refuses whatever asks for /models where the server has one model: that is what a client meets who
 * takes it for a server of several, and MMS would say only that there is no such resource.
 */
@Sharable
final class NoModelRequests extends ChannelInboundHandlerAdapter {

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        FullHttpRequest request = (FullHttpRequest) msg;
        String[] segments = Paths.segments(request);
        if (segments.length < 2 || !segments[1].equals("models")) {
            ctx.fireChannelRead(request);
            return;
        }
        request.release();
        Responses.sendError(ctx.channel(), RequestException.oneModel(), Invocation.newId());
    }
}

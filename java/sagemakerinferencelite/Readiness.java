// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.epoll.EpollServerDomainSocketChannel;
import io.netty.channel.unix.DomainSocketAddress;
import java.io.IOException;

/**
 * Whether the one model of single-model mode is loaded, as the zygote says (zygote/readiness.py).
 *
 * <p>The zygote says it on a connection to here, one byte at each change, the last of which counts.
 * It says that a model is gone before it answers for the worker that had it, so whoever has that
 * answer finds /ping changed.
 */
@Sharable
final class Readiness extends ChannelInboundHandlerAdapter {

    private static final byte READY = '1';

    private volatile boolean ready;
    /** Who is listened to: the last that has come. Used by one event loop alone. */
    private Channel speaker;

    boolean isReady() {
        return ready;
    }

    void listen(EventLoopGroup loops, String path) throws IOException, InterruptedException {
        EventLoopGroup one = loops.next();
        ChannelFuture bound =
                new ServerBootstrap()
                        .group(one)
                        .channel(EpollServerDomainSocketChannel.class)
                        .childHandler(this)
                        .bind(new DomainSocketAddress(path))
                        .await();
        if (!bound.isSuccess()) {
            throw new IOException("cannot listen on " + path, bound.cause());
        }
    }

    @Override
    public void channelActive(ChannelHandlerContext ctx) {
        speaker = ctx.channel();
        ready = false;
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object msg) {
        ByteBuf said = (ByteBuf) msg;
        if (ctx.channel() == speaker && said.isReadable()) {
            ready = said.getByte(said.writerIndex() - 1) == READY;
        }
        said.release();
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        if (ctx.channel() == speaker) {
            ready = false;
        }
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
        ctx.close();
    }
}

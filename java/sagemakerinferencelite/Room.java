// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

import io.netty.util.internal.PlatformDependent;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Room for bodies and answers in the memory outside the heap, for all connections together.
 *
 * <p>Whoever asks for more of that memory than there is fails, and not only the one who took so
 * much. So what is held is counted: bodies that come, bodies that wait for their worker, answers
 * that come from workers, answers that their clients have not taken yet. A body may find less room
 * than an answer, which ends what holds a body; and what is small finds room where nothing large
 * does. What is left is for what is read and written meanwhile, and for what lies between.
 */
final class Room {

    /** What has no more bytes is small. */
    static final int SMALL_BYTES = 1 << 16;

    private static final long MEMORY = PlatformDependent.maxDirectMemory();

    private static final long FOR_BODIES = MEMORY / 2;
    private static final long FOR_ANSWERS = MEMORY / 4 * 3;
    private static final long FOR_SMALL = MEMORY / 8 * 7;

    /** From there on whoever holds room and does nothing with it is waited for less long. */
    private static final long SHORT = MEMORY / 4;

    private static final AtomicLong HELD = new AtomicLong();

    private Room() {}

    /** Whether there was room for more bytes of a body that has so many then. Needs a {@link #free}. */
    static boolean takeForBody(long bytes, long then) {
        return take(bytes, then <= SMALL_BYTES ? FOR_SMALL : FOR_BODIES);
    }

    /** Whether a body of so many bytes could find room if it were alone. */
    static boolean isEverThereForBody(long bytes) {
        return bytes <= FOR_BODIES;
    }

    /** Whether there was room for a large answer. Needs a {@link #free}. */
    static boolean takeForAnswer(long bytes) {
        return take(bytes, FOR_ANSWERS);
    }

    private static boolean take(long bytes, long limit) {
        if (HELD.addAndGet(bytes) <= limit) {
            return true;
        }
        HELD.addAndGet(-bytes);
        return false;
    }

    /** Counts what is held anyhow; negative where it is less than before. */
    static void count(long bytes) {
        HELD.addAndGet(bytes);
    }

    static void free(long bytes) {
        HELD.addAndGet(-bytes);
    }

    /** Whether so much is held that a further request may find no room for its answer. */
    static boolean isFull() {
        return HELD.get() > FOR_SMALL;
    }

    static boolean isShort() {
        return HELD.get() > SHORT;
    }
}

// SPDX-License-Identifier: Apache-2.0
package sagemakerinferencelite;

/** Workers that a reload brings, all of which must have loaded the model before any of them is asked. */
final class Generation {

    /** The workers that a model is loaded or scaled with. */
    static final Generation FIRST = new Generation(0, 0);

    /** Of a reload, counted from 1. */
    final int number;

    /** How many workers it has. */
    final int size;

    Generation(int number, int size) {
        this.number = number;
        this.size = size;
    }
}

# SPDX-License-Identifier: Apache-2.0
"""Descriptors 1 and 2 of this process and of those that it starts: nobody who prints to them waits for a reader."""

from __future__ import annotations

import os
import time
from typing import Any

from sagemaker_inference_lite.runtime import standard_streams
from sagemaker_inference_lite.supervision.line_writer import LineWriter
from sagemaker_inference_lite.supervision.output import OutputRelay

_STDOUT, _STDERR = 1, 2

# How long it may take to put the descriptors back once all has been written.
_RESTORE_SECONDS = 0.2

# How long it may take to write what has been printed, where nobody says how long.
_CLOSE_SECONDS = 0.9


class CapturedOutput:
    """Puts pipes into the place of descriptors 1 and 2, and writes what comes from them to where those led.

    All of this process prints to them, its other threads too, and so does every process that it starts meanwhile.
    """

    def __init__(self) -> None:
        self._relay = OutputRelay()
        self._saved: dict[int, int] = {}
        self._writers: dict[int, LineWriter] = {}
        self._is_capturing = False

    def __enter__(self) -> CapturedOutput:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._is_capturing:
            self.close(time.monotonic() + _CLOSE_SECONDS)

    def start(self) -> None:
        """Begin to capture. 0, 1 and 2 must be open, so that no pipe gets one of these numbers."""
        self._is_capturing = True
        self._saved = {number: standard_streams.duplicate(number) for number in (_STDOUT, _STDERR)}
        is_one = os.path.sameopenfile(*self._saved.values())
        out = LineWriter(self._saved[_STDOUT])
        self._writers = {_STDOUT: out, _STDERR: out if is_one else LineWriter(self._saved[_STDERR])}
        for writer in set(self._writers.values()):
            writer.start()
        self._relay.start()
        self._capture(_STDOUT)
        if is_one:
            # One pipe for both keeps what is printed to the two in its order.
            os.dup2(_STDOUT, _STDERR)
        else:
            self._capture(_STDERR)
        standard_streams.flush()  # what was printed before comes first

    def add(self, source: int, prefix: str, number: int) -> None:
        """Write the lines of this pipe, which becomes this object's to close, to where descriptor 1, or 2, led."""
        self._relay.add(source, prefix, self._writers[number])

    def close(self, deadline: float) -> None:
        """Write all that has been printed, and put the descriptors back.

        Where whoever reads there is asleep, so that it has not been written by the deadline, the pipes stay, and are
        emptied for as long as this process lives: nothing that it prints at its own end waits for a reader either.
        """
        self._is_capturing = False
        standard_streams.flush()
        if not (self._relay.settle(deadline) and self._writers_settle(deadline)):
            return
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        deadline = max(deadline, time.monotonic() + _RESTORE_SECONDS)
        self._relay.close(deadline)
        for writer in set(self._writers.values()):
            if not writer.end(deadline):
                return
        for saved in self._saved.values():
            os.close(saved)

    def _writers_settle(self, deadline: float) -> bool:
        return all(writer.settle(deadline) for writer in set(self._writers.values()))

    def _capture(self, number: int) -> None:
        source, sink = os.pipe()
        os.dup2(sink, number)
        os.close(sink)
        self._relay.add(source, "", self._writers[number])

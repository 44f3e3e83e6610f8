# SPDX-License-Identifier: Apache-2.0
"""SAGEMAKER_MODEL_SERVER_SHARE_MODEL as the zygote sees it: the keeper of the model, and whether there is one."""

from __future__ import annotations

import functools
import json
import logging
import socket
from collections.abc import Sequence
from typing import Any, Callable

from sagemaker_inference_lite.mms import wire
from sagemaker_inference_lite.process_group import kill_group
from sagemaker_inference_lite.worker.event_loop import EventLoop
from sagemaker_inference_lite.worker.heir import LONGEST_MESSAGE, Heir

logger = logging.getLogger("sagemaker_inference_lite.worker.zygote")

# A keeper that is killed, most likely for memory, would be again.
_MAX_DEATHS = 3

# Forks the keeper: called with its end of the control socket, and what it is to load; its pid.
ForkKeeper = Callable[[socket.socket, wire.Load], int]


class SharedModel:
    """Has the model loaded once, when its first worker is to be forked, and all workers forked from there.

    Args:
        loop: The zygote's.
        fork_keeper: Forks the keeper.
        limit_seconds: The longest that the load may take.
    """

    def __init__(self, loop: EventLoop, fork_keeper: ForkKeeper, limit_seconds: float) -> None:
        self._loop = loop
        self._fork_keeper = fork_keeper
        self._limit_seconds = limit_seconds
        self._keeper: Heir | None = None
        self._is_loading = False
        self._is_given_up = False
        self._deaths = 0

    def is_expecting(self, load: wire.Load) -> bool:
        """Whether the model is about to be there; has it loaded where it is not."""
        if self._keeper is None and not self._is_given_up:
            self._begin(load)
        return self._is_loading

    def bear(self, order: dict[str, Any], files: Sequence[int]) -> int | None:
        """Have the keeper fork a worker; its pid, or None where the worker has to load the model itself."""
        if self._keeper is None:
            return None
        try:
            return self._keeper.bear(order, files)
        except (OSError, ValueError) as error:
            self._lose(str(error))
            return None

    def holders(self) -> Sequence[int]:
        """The keeper, where there is one: it has run the model's code."""
        return [self._keeper.pid] if self._keeper is not None else []

    def consider(self, modules: Sequence[str]) -> None:
        """Take in what a worker had to import: it was one that could not share the model."""

    def ended(self, pid: int) -> None:
        """Take in that a child of the zygote has ended."""
        keeper = self._keeper
        if keeper is None or keeper.pid != pid:
            return
        keeper.has_ended = True
        if self._is_loading:
            self._hear()  # its end may be seen before its last words
        if self._keeper is keeper:
            self._lose("it could not be loaded" if self._is_loading else "the process that holds it has ended")

    def _begin(self, load: wire.Load) -> None:
        if load.gpu_id is not None:
            self._give_up("it is to use a GPU, and CUDA cannot be used after a fork")
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._give_up(str(error))
            return
        self._loop.watch(ours, self._hear)
        try:
            with theirs:
                keeper = Heir(self._fork_keeper(theirs, load), ours, ())
        except OSError as error:
            self._loop.drop(ours)
            self._give_up(str(error))
            return
        self._keeper = keeper
        self._is_loading = True
        self._loop.later(self._limit_seconds, functools.partial(self._check_limit, keeper))

    def _hear(self) -> None:
        assert self._keeper is not None
        try:
            # What the model's load has started may hold the other end open.
            said = json.loads(self._keeper.control.recv(LONGEST_MESSAGE, socket.MSG_DONTWAIT) or b"{}")
        except OSError:
            said = {}
        self._loop.unwatch(self._keeper.control)
        if not said:
            return  # its end follows as SIGCHLD
        if said["unfit"]:
            self._lose(said["unfit"], for_good=True)
        else:
            logger.info("the model loaded in %d ms, for all workers to share", said["milliseconds"])
            self._is_loading = False

    def _check_limit(self, keeper: Heir) -> None:
        if keeper is self._keeper and self._is_loading:
            self._lose(f"it takes longer than {self._limit_seconds:.0f} seconds to load", for_good=True)

    def _lose(self, reason: str, for_good: bool = False) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._loop.drop(keeper.control)
            kill_group(keeper.pid)
        self._deaths += 1
        if for_good or self._is_loading or self._deaths >= _MAX_DEATHS:
            self._give_up(reason)
        else:
            logger.warning("the model is loaded again for its workers to share: %s", reason)
        self._is_loading = False

    def _give_up(self, reason: str) -> None:
        self._is_given_up = True
        logger.warning("the model is not shared, and each worker loads it by itself: %s", reason)

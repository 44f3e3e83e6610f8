# SPDX-License-Identifier: Apache-2.0
"""The model template of a shared model, seen from the zygote: what it says last is heard, however soon it ends."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest

from sagemaker_inference_lite.ipc import wire
from sagemaker_inference_lite.zygote.event_loop import EventLoop
from sagemaker_inference_lite.zygote.model_template import ModelTemplate

LOAD = wire.Load("model", "/model", 1, "handler", None)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ({"milliseconds": 1, "unfit": "its load starts threads (1)"}, "its load starts threads (1)"),
        (None, "it could not be loaded"),
    ],
)
def test_the_end_of_a_template_is_seen_before_its_message(
    caplog: pytest.LogCaptureFixture, word: dict[str, object] | None, reason: str
) -> None:
    """The reason that it gave is the one that is logged; where it gave none, that is."""
    pids: list[int] = []
    held: list[socket.socket] = []

    def fork_template(control: socket.socket, load: wire.Load) -> int:
        if word is not None:
            control.send(json.dumps(word).encode())
        held.append(control.dup())  # as a process that the load has started
        process = subprocess.Popen(["true"])
        process.wait()
        pids.append(process.pid)
        return process.pid

    shared = ModelTemplate(EventLoop(), fork_template, 60)
    assert shared.is_pending(LOAD)
    shared.child_ended(pids[0])
    assert f"each worker loads it by itself: {reason}" in caplog.text
    assert not shared.is_pending(LOAD)
    assert len(pids) == 1
    held[0].close()

# SPDX-License-Identifier: Apache-2.0
"""The keeper of a shared model: loads the model of single-model mode once, and forks the workers that serve it.

What a model holds is then in memory once, as far as nobody writes to it. It is the handler's part to be fit for that,
so it is asked for by a setting; where the keeper sees that a model is not, the workers load it each for itself.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from sagemaker_inference_lite import fork_guard, log_lines, standard_streams
from sagemaker_inference_lite.mms import wire
from sagemaker_inference_lite.printable import named
from sagemaker_inference_lite.worker import birth, fork_safety, worker
from sagemaker_inference_lite.worker.after_fork import become_worker
from sagemaker_inference_lite.worker.before_fork import prepare_to_fork
from sagemaker_inference_lite.worker.birth import Inheritance
from sagemaker_inference_lite.worker.heir import serve_orders

logger = logging.getLogger(__name__)


def become_keeper(
    control: socket.socket, load: wire.Load, outputs: tuple[int, int], inheritance: Inheritance, zygote: int
) -> None:
    """A keeper's whole life: load the model, say what came of it, and fork workers by order. Never returns.

    Args:
        control: Where it says so, and takes orders.
        load: What it loads.
        outputs: What becomes its stdout and stderr.
        zygote: The pid of the zygote, which has forked it.
    """
    try:
        score = become_worker(zygote, *outputs)
        for descriptor in outputs:
            os.close(descriptor)
        log_lines.belong_to_model(load.model_name)
        begun = time.monotonic()
        before = fork_safety.held()
        fork_guard.claim([control])
        loaded = worker.load_model(load, inheritance.handler, inheritance.find_entry_point, inheritance.environ)
        fork_guard.end_if_forked()
        fork_guard.release()
        standard_streams.occupy()  # the model may have closed them
        if loaded.context.load_report:
            logger.info("%s", loaded.context.load_report)
        milliseconds = int(1000 * (time.monotonic() - begun))
        unsafe = fork_safety.why_unsafe(before)
        said = {"milliseconds": milliseconds, "unfit": unsafe and f"its load {unsafe}"}
        prepare_to_fork()
        score.waits()
        control.send(json.dumps(said).encode())
        if said["unfit"]:
            os._exit(0)

        def live(order: dict[str, Any], files: Sequence[int]) -> None:
            birth.live(birth.of_order(order, files, inheritance), inheritance, zygote, loaded=loaded)

        serve_orders(control, zygote, live)
    except BaseException as error:  # whatever a model raises at its load, SystemExit included
        fork_guard.end_if_forked(error)
        logger.error("model %s cannot be loaded to be shared: %s", load.model_name, named(error))
    finally:
        standard_streams.flush()
        os._exit(1)

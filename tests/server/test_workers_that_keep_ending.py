# SPDX-License-Identifier: Apache-2.0
"""A worker that ends by itself soon after its load is not loaded again and again: the log is true, and it ends."""

from __future__ import annotations

import functools
import time
from typing import Callable

import psutil
import requests
from running_server import Server, all_gone, eventually

from sagemaker_inference_lite.errors import ModelLoadError
from sagemaker_inference_lite.zygote.restarts import MOST_ENDS


def test_a_single_model_ends_the_server(start_single: Callable[..., Server]) -> None:
    """After a few tries, each later than the one before, with a status and a reason (pytorch/serve#2428)."""
    server = start_single("die_later 0.1", SAGEMAKER_MODEL_SERVER_WORKERS="1")
    assert server.ended() == ModelLoadError.exit_code
    log = server.output()
    assert f"The model's worker has ended {MOST_ENDS} times in a row before it was asked anything." in log
    assert log.count("The worker exited with status 3 while it waited for a request.") == MOST_ENDS + 1
    assert log.count("model 'model' loaded in") == MOST_ENDS
    assert "while it handled a request" not in log


def test_one_of_several_models_is_refused(multi: Server, model: str) -> None:
    """Requests are answered 503 with the reason, loads are few, and the other models do not notice."""
    loads = f"model {model!r} loaded in"
    assert multi.load(f"{model}-other").status_code == 200
    assert multi.load(model, "die_later 0.1").status_code == 200
    assert eventually(lambda: multi.output().count("while it waited for a request") == 3)
    answer = eventually(lambda: refused(multi, model))
    assert "has ended 3 times in a row before it was asked anything" in answer
    assert "The worker exited with status 3 while it waited for a request." in answer
    assert multi.output().count(loads) == 3
    assert multi.invoke("echo on", f"{model}-other").text == "on"
    (multi.base_dir / "models" / model / "model" / "on_load").write_text("echo")
    assert eventually(lambda: multi.invoke("echo on", model).text == "on")
    for name in (model, f"{model}-other"):
        multi.unload(name)


def refused(server: Server, model: str) -> str:
    """What a request is refused with; "" where it is not."""
    answer = server.invoke("echo", model)
    return answer.text if answer.status_code == 503 else ""


def test_a_worker_that_has_answered_is_replaced_soon(single: Server) -> None:
    """One that was asked something before it ended counts as the first, however often."""
    for _ in range(MOST_ENDS + 1):
        worker = psutil.Process(int(single.invoke("pid").text))
        worker.terminate()
        assert eventually(functools.partial(all_gone, [worker]))
        begun = time.monotonic()
        assert eventually(lambda: len(single.processes()["worker"]) == 2)
        assert time.monotonic() - begun < 5
    assert single.ping() == 200


def test_no_request_is_lost_in_the_moment_of_an_end(start_single: Callable[..., Server]) -> None:
    """A request that a worker has received and could not begin is answered 500, and the next one 200."""
    server = start_single(SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    with requests.Session() as session:
        for _ in range(6):
            assert eventually(lambda: session.post(f"{server.url}/invocations", data="die_later 0.02", timeout=10).ok)
            ends = time.monotonic() + 0.3
            while time.monotonic() < ends:
                answer = session.post(f"{server.url}/invocations", data="echo", timeout=10)
                assert answer.status_code in (200, 500), answer.text
    assert server.stop() == 0

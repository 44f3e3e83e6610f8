# SPDX-License-Identifier: Apache-2.0
"""Loads and unloads of one name at a time, by several clients: each is told what happened, and no name is lost."""

from __future__ import annotations

import json
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import pytest
import requests
from running_server import Server, eventually

pytestmark = pytest.mark.once


def test_a_load_of_a_model_that_is_being_unloaded_is_409(multi: Server, model: str) -> None:
    """The answer says what to wait for; once the DELETE has been answered, the name is free."""
    multi.load(model)
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(multi.invoke, "sleep 1.5", model)
        time.sleep(0.3)  # for the request to be there; were it not, DELETE would not wait for it
        unloads = [pool.submit(multi.unload, model) for _ in range(3)]
        assert eventually(lambda: multi.invoke("echo", model).status_code == 503)
        refused = multi.load(model)
        assert refused.status_code == 409
        assert "is being unloaded" in refused.json()["message"]
        scaled = requests.put(f"{multi.url}/models/{model}?min_worker=2", timeout=5)
        assert scaled.status_code == 409
        assert slow.result().text == "slept"
        assert sorted(each.result().status_code for each in unloads) == [200, 404, 404]
    assert multi.load(model).status_code == 200
    multi.unload(model)


def test_a_model_that_is_unloaded_while_it_loads_is_409_for_its_loader(multi: Server, model: str) -> None:
    """DELETE is answered at once, the load with the reason; the worker ends."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(multi.load, model, "sleep 5")
        assert eventually(lambda: model in multi.listed())
        assert multi.unload(model).status_code == 200
        answer = load.result()
    assert answer.status_code == 409
    assert "was unloaded by another request while it loaded" in answer.json()["message"]
    assert eventually(lambda: not multi.processes()["worker"])
    assert multi.load(model).status_code == 200
    multi.unload(model)


def test_workers_that_are_still_loading_may_be_made_fewer(multi: Server, model: str) -> None:
    """The end of one that is one too many is no failed load of the others."""
    assert multi.load(model, "sleep 0.5", initial_workers=3, synchronous=False).status_code == 202
    scaled = requests.put(f"{multi.url}/models/{model}?min_worker=1&max_worker=1&synchronous=true", timeout=10)
    assert (scaled.status_code, scaled.json()) == (200, {"status": "Workers scaled"})
    assert multi.invoke("echo on", model).text == "on"
    assert len(multi.described(model)["workers"]) == 1
    multi.unload(model)


def test_a_second_load_of_a_name_that_loads_is_409(multi: Server, model: str) -> None:
    """And the first one is not disturbed."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(multi.load, model, "sleep 0.5")
        assert eventually(lambda: model in multi.listed())
        refused = requests.post(multi.url + "/models", json={"model_name": model, "url": "/nowhere"}, timeout=5)
        assert refused.status_code == 409
        assert load.result().status_code == 200
    multi.unload(model)


def test_an_asynchronous_load_that_fails_is_unlisted(multi: Server, model: str) -> None:
    """It has been answered 202; the log says what came of it, and the name is free."""
    assert multi.load(model, "late_failure 0.5", synchronous=False).status_code == 202
    assert eventually(lambda: f"The model {model} could not be loaded: " in multi.output())
    assert multi.listed() == []
    assert multi.load(model).status_code == 200
    multi.unload(model)


def test_archives_of_equal_content_have_a_directory_each(multi: Server, model: str, tmp_path: Path) -> None:
    """Two models of one archive: when the one is unloaded, the other's files stay."""
    archive = tmp_path / "model.mar"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("on_load", "echo")
    names = [f"{model}-{number}" for number in range(2)]
    for name in names:
        answer = requests.post(multi.url + "/models", json={"model_name": name, "url": str(archive)}, timeout=20)
        assert answer.status_code == 200
    first, second = (Path(multi.invoke("cwd", name).text) for name in names)
    assert multi.unload(names[0]).status_code == 200
    assert eventually(lambda: not first.exists())
    assert (second / "on_load").exists()
    assert multi.unload(names[1]).status_code == 200
    assert eventually(lambda: not second.exists())


ALLOWED = {"load": {200, 409}, "unload": {200, 404}, "invoke": {200, 404, 503}}


def test_one_name_loaded_invoked_and_unloaded_by_many_clients(multi: Server, model: str) -> None:
    """Answers are 200, 404, 409 and 503 with a reason; afterwards nothing is left, and the name loads and answers."""
    multi.load(model)  # which also makes its directory
    body = {"model_name": model, "url": str(multi.base_dir / "models" / model / "model")}
    asks: dict[str, Callable[[], requests.Response]] = {
        "load": lambda: requests.post(multi.url + "/models", json=body, timeout=20),
        "unload": lambda: multi.unload(model),
        "invoke": lambda: multi.invoke("echo on", model),
    }
    until = time.monotonic() + 3

    def repeat(what: str) -> list[tuple[str, int, str]]:
        answers = []
        while time.monotonic() < until:
            answer = asks[what]()
            answers.append((what, answer.status_code, answer.text))
        return answers

    with ThreadPoolExecutor(8) as pool:
        answers = [each for row in pool.map(repeat, ["load", "unload", "invoke"] * 3) for each in row]
    assert [each for each in answers if each[1] not in ALLOWED[each[0]]] == []
    assert [each for each in answers if each[1] != 200 and not json.loads(each[2])["message"]] == []
    counts = Counter(each[:2] for each in answers)
    refused = [json.loads(text)["message"] for what, status, text in answers if (what, status) == ("load", 409)]
    # Those that were registered, and lost their name before they had their workers, or before they had loaded.
    ends = (" is being unloaded.", " was unloaded by another request while it loaded.")
    cancelled = sum(message.endswith(ends) for message in refused)
    assert counts["load", 200] + 1 + cancelled - counts["unload", 200] in (0, 1), counts
    assert counts["load", 200] > 0, counts
    assert counts["invoke", 200] > 0, counts
    if model in multi.listed():
        assert multi.unload(model).status_code == 200
    assert multi.listed() == []
    assert eventually(lambda: not multi.processes()["worker"])
    assert multi.load(model).status_code == 200
    assert multi.invoke("echo on", model).text == "on"
    assert multi.unload(model).status_code == 200


def test_a_connection_that_breaks_after_each_load_is_made_less_and_less_often(multi: Server, model: str) -> None:
    """After a few tries at once requests are refused rather than kept waiting, and the log says what goes on."""
    assert multi.load(model, "break_connection 0.1").status_code == 200
    assert eventually(lambda: "and made anew in 2 s: its connection has ended" in multi.output(), 10)
    assert multi.output().count(f"model {model!r} loaded in") <= 5
    refused = multi.invoke("echo", model)
    assert refused.status_code == 503
    assert "No worker" in refused.json()["message"]
    assert multi.unload(model).status_code == 200
    assert multi.listed() == []

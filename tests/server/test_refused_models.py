# SPDX-License-Identifier: Apache-2.0
"""Requests about models that cannot be done: each is told what is wrong with it, and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest
import requests
from running_server import Server

pytestmark = pytest.mark.once


def load(server: Server, url: Path | str, name: str = "m") -> tuple[int, str]:
    """The status and the message of a load."""
    answer = requests.post(server.url + "/models", json={"model_name": name, "url": str(url)}, timeout=30)
    return answer.status_code, answer.json().get("message", "")


def test_a_model_that_is_not_there_is_told_of_with_those_that_are(start: Callable[..., Server]) -> None:
    """404 names the models, ten at the most, for every kind of request."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()

    def told(name: str = "who") -> set[tuple[int, str]]:
        url = f"{server.url}/models/{name}"
        answers = [
            server.invoke("echo", name),
            requests.get(url, timeout=20),
            requests.put(url, timeout=20),
            requests.delete(url, timeout=20),
        ]
        return {(each.status_code, each.json()["message"]) for each in answers}

    assert told() == {(404, "Model not found: who. No model is loaded.")}
    server.load("m-05")
    assert told() == {(404, "Model not found: who. The only model is m-05.")}
    for number in (3, 1, 2, 4, *range(6, 13)):
        server.load(f"m-{number:02}", initial_workers=0)
    names = ", ".join(f"m-{number:02}" for number in range(1, 11))
    assert told() == {(404, f"Model not found: who. The models are {names}, ... and 2 more.")}
    # Whatever a client has written there.
    ((status, message),) = told("%1b%5b31m%0a" + "x" * 1000)
    assert (status, message.partition(" The models")[0]) == (404, "Model not found: ?[31m?" + "x" * 250 + "....")


def test_a_name_that_is_taken_is_409(multi: Server) -> None:
    """The answer says what has to come first, as it has to be written."""
    name = "my model"
    assert multi.load(name).status_code == 200
    answer = multi.load(name)
    told = "The model my model is loaded already: to load it anew, DELETE /models/my%20model comes first."
    assert (answer.status_code, answer.json()["message"]) == (409, told)
    assert multi.load("idle", initial_workers=0).status_code == 200
    told = "The model idle is loading, or waits for workers, already: to load it anew, DELETE /models/idle comes first."
    assert multi.load("idle").json()["message"] == told
    for each in (name, "idle"):
        assert multi.unload(each).status_code == 200


def test_urls_of_nothing(multi: Server, tmp_path: Path) -> None:
    """Each is told what is there instead, and what would be."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "relative").symlink_to("nowhere")
    (tmp_path / "hostile").symlink_to("\x1b[31m\n")
    t, inside = tmp_path, "The path must be one in this container."
    expected: dict[Path | str, str] = {
        t / "x": f"{t}/x does not exist: {t} has no x. {inside}",
        t / "x" / "model": f"{t}/x/model does not exist: {t} has no x. {inside}",
        t / "file" / "model": f"{t}/file/model does not exist: {t}/file is a file.",
        t / "dangling": f"{t}/dangling is a link to {t}/nowhere, which does not exist in this container.",
        t / "dangling" / "model": f"{t}/dangling/model does not exist: {t}/dangling is a link to {t}/nowhere, which "
        "does not exist in this container.",
        t / "relative": f"{t}/relative is a link to nowhere, which does not exist beside it.",
        t / "hostile": f"{t}/hostile is a link to ?[31m?, which does not exist beside it.",
        "s3://bucket/model.tar.gz": "s3://bucket/model.tar.gz is an address that this server does not open: give the "
        "path of a model that is in the container.",
    }
    for url, told in expected.items():
        assert load(multi, url) == (404, told)
    assert multi.listed() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search every directory")
def test_a_directory_that_may_not_be_searched(multi: Server, tmp_path: Path) -> None:
    """What is behind it may be there: it is not said that it is not."""
    (tmp_path / "closed" / "model").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o600)
    told = f"{tmp_path}/closed/model cannot be reached: this server's user may not search {tmp_path}/closed."
    assert load(multi, tmp_path / "closed" / "model") == (404, told)


def test_a_directory_with_a_packed_model_alone(multi: Server, tmp_path: Path) -> None:
    """It is said that it is packed; beside anything else the file is the model's own business."""
    (tmp_path / "model.tar.gz").write_bytes(b"")
    (tmp_path / ".hidden").touch()
    told = f"{tmp_path} holds the packed model.tar.gz alone: unpack it there, or give the archive itself as url."
    assert load(multi, tmp_path) == (400, told)
    (tmp_path / "on_load").write_text("echo")
    assert load(multi, tmp_path)[0] == 200
    assert multi.unload("m").status_code == 200

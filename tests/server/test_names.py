# SPDX-License-Identifier: Apache-2.0
"""The names of models: one that is accepted is one by which the model can be asked for again."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from running_server import Server

pytestmark = pytest.mark.once

BAD = {
    "empty": "",
    "a dot": ".",
    "two dots": "..",
    "half a pair": "\ud800",
    "half a pair within": "a\udfffb",
    "slash": "a/b",
    "backslash": "a\\b",
    "question mark": "a?b",
    "hash": "a#b",
    "percent": "a%41",
    "line end": "a\nb",
    "nul": "a\0b",
    "next line": "a\u0085b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "delete": "a\x7f",
    "blank before": " a",
    "blank behind": "a\u00a0",
    "replacement": "a\ufffdb",
    "too long": "x" * 257,
    "number": 5,
    "list": ["a"],
}

GOOD = ["a.b", "...", "a+b", "a;b=c&d", "a b", "~a'(*)!"]
GOOD += ["größe", "モデル", "\U0001f600", "e\u0301", "x" * 256, "é" * 256]


def load(server: Server, name: object, **more: str) -> requests.Response:
    """Load a model under that name; the body is ASCII, whatever the name."""
    directory = server.base_dir / "models" / "any" / "model"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "on_load").write_text("echo")
    body = json.dumps({"model_name": name, "url": str(directory), **more})
    return requests.post(server.url + "/models", data=body, headers={"Content-Type": "application/json"}, timeout=20)


@pytest.mark.parametrize("kind", BAD)
def test_a_name_that_cannot_be_asked_for_is_400(multi: Server, kind: str) -> None:
    """It is refused at the load, which says what a name may be."""
    answer = load(multi, BAD[kind])
    assert answer.status_code == 400
    assert "Parameter model_name is " in answer.json()["message"]
    assert multi.listed() == []


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_any_other_name_is_found_again(multi: Server, name: str) -> None:
    """By the escaped name it is described, scaled, invoked and unloaded; listed it is the name itself."""
    assert load(multi, name).status_code == 200
    assert multi.listed() == [name]
    path = quote(name, safe="")
    assert multi.described(path)["modelName"] == name
    assert requests.put(f"{multi.url}/models/{path}?min_worker=1&synchronous=true", timeout=20).status_code == 200
    assert multi.invoke("echo on", path).text == "on"
    assert multi.unload(path).status_code == 200
    assert multi.listed() == []


def test_a_name_in_the_query_is_held_to_the_same(multi: Server) -> None:
    """What is not UTF-8 in escapes is no name."""
    for name in ("%ED%A0%80", "%FF", "%2E%2E", "a%2Fb"):
        answer = requests.post(f"{multi.url}/models?url=/tmp&model_name={name}", timeout=5)
        assert answer.status_code == 400
        assert "model_name" in answer.json()["message"]


@pytest.mark.parametrize("name", ["..", "a/b", "\ud800"])
def test_a_name_of_a_manifests_is_held_to_the_same(multi: Server, tmp_path: Path, name: str) -> None:
    """Where the load names none, the manifest's is the model's."""
    (tmp_path / "MAR-INF").mkdir()
    manifest = {"runtime": "python", "model": {"modelName": name}}
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    answer = requests.post(multi.url + "/models", json={"url": str(tmp_path)}, timeout=20)
    assert answer.status_code == 400
    assert "model_name" in answer.json()["message"]
    assert multi.listed() == []


def test_a_load_without_any_name_is_400(multi: Server, tmp_path: Path) -> None:
    """Neither the request nor a manifest has one."""
    answer = requests.post(multi.url + "/models", json={"url": str(tmp_path)}, timeout=20)
    assert (answer.status_code, answer.json()["message"]) == (400, "Model name is not defined.")

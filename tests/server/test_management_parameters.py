# SPDX-License-Identifier: Apache-2.0
"""The parameters of management requests: each has bounds, and a value beyond them is 400 and says what was expected."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
import requests
from running_server import Server, eventually

pytestmark = pytest.mark.once

BAD_LOADS: dict[str, Any] = {
    "batch_size": [0, -1, 1.5, 2147483648, 1025, "many", [1], {}, True, 10**30],
    "max_batch_delay": [-1, 0.5, 3_600_001, "soon"],
    "response_timeout": [0, -1, 86_401, "1e9"],
    "initial_workers": [-1, 1.5, 1025, 1_000_000, 2147483648, "1 000"],
    "synchronous": ["yes", 1, []],
    "preload_model": ["perhaps"],
    "runtime": ["ruby", "", 3],
    "handler": ["", "x" * 4097, "a\nb", 7],
    "url": ["", "/" + "x" * 4096, 3, ["/"], "/a\x00b", "/\ud800"],
}


@pytest.mark.parametrize("name", BAD_LOADS)
def test_a_load_with_a_bad_parameter_is_400(multi: Server, model: str, name: str) -> None:
    """The answer has the parameter's name and what was expected; nothing is loaded."""
    for value in BAD_LOADS[name]:
        body = {"model_name": model, "url": str(multi.base_dir), name: value}
        answer = requests.post(multi.url + "/models", json=body, timeout=20)
        assert answer.status_code == 400, value
        assert f"Parameter {name} is " in answer.json()["message"]
        assert "; expected " in answer.json()["message"]
    assert multi.listed() == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=101", "limit=ten", "next_page_token=-1", "next_page_token=x", "limit=%zz"]
)
def test_a_list_with_a_bad_parameter_is_400(multi: Server, query: str) -> None:
    """No page can be asked for whose token leads nowhere."""
    answer = requests.get(f"{multi.url}/models?{query}", timeout=5)
    assert answer.status_code == 400
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "query",
    ["min_worker=-1", "min_worker=1.5", "max_worker=1025", "min_worker=2&max_worker=1", "synchronous=no", "timeout=-2"],
)
def test_a_scaling_with_a_bad_parameter_is_400(multi: Server, model: str, query: str) -> None:
    """The model goes on as it was."""
    multi.load(model)
    answer = requests.put(f"{multi.url}/models/{model}?{query}", timeout=5)
    assert answer.status_code == 400
    assert "; expected " in answer.json()["message"]
    assert len(multi.described(model)["workers"]) == 1
    multi.unload(model)


def test_parameters_may_stand_in_the_query_and_numbers_in_quotes(multi: Server, model: str) -> None:
    """As with MMS; what is not known is passed over."""
    assert multi.load(model, batch_size="2", synchronous="true", max_batch_delay=5.0, unheard_of=[1]).status_code == 200
    url = multi.described(model)["modelUrl"]
    multi.unload(model)
    parameters = {"url": url, "model_name": model, "batch_size": "3", "response_timeout": "7"}
    answer = requests.post(multi.url + "/models", params=parameters, timeout=20)
    assert (answer.status_code, answer.json()) == (200, {"status": "Workers scaled"})
    assert multi.described(model)["batchSize"] == 3
    multi.unload(model)


def test_a_load_request_beyond_64_kib_is_refused_unread(multi: Server, model: str) -> None:
    """Whatever it holds: a megabyte of brackets is not parsed."""
    for body in (b"[" * (1 << 20), json.dumps({"url": "x" * (1 << 17)}).encode()):
        headers = {"Content-Type": "application/json"}
        answer = requests.post(multi.url + "/models", data=body, headers=headers, timeout=5)
        assert answer.status_code == 413
        assert "65536" in answer.json()["message"]


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"url": "\xff"}', b"null", b'{"url": "/" "x"}'])
def test_a_load_request_that_is_no_json_object_is_400(multi: Server, body: bytes) -> None:
    """However deep it is nested, and where it is not UTF-8."""
    answer = requests.post(multi.url + "/models", data=body, headers={"Content-Type": "application/json"}, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("The request body is not ")


def test_pages_of_models_end(multi: Server, model: str) -> None:
    """A page has a token only where a further model follows."""
    names = [f"{model}-{number}" for number in range(4)]
    for name in names:
        assert multi.load(name).status_code == 200
    first = requests.get(f"{multi.url}/models?limit=2", timeout=5).json()
    last = requests.get(f"{multi.url}/models?limit=2&next_page_token={first['nextPageToken']}", timeout=5).json()
    assert [each["modelName"] for page in (first, last) for each in page["models"]] == names
    assert "nextPageToken" not in last
    assert requests.get(f"{multi.url}/models?next_page_token=2147483647", timeout=5).json() == {"models": []}
    for name in names:
        multi.unload(name)


def test_methods_that_are_not_there_are_405(multi: Server) -> None:
    """On both paths."""
    for method, path in (("PUT", "/models"), ("DELETE", "/models"), ("POST", "/models/x"), ("PATCH", "/models/x")):
        assert requests.request(method, multi.url + path, timeout=5).status_code == 405


def test_the_description_of_the_interface_is_still_there(multi: Server) -> None:
    """OPTIONS / lists the management interface too, as with MMS."""
    paths = requests.options(multi.url + "/", timeout=5).json()["paths"]
    assert {"/ping", "/models", "/models/{model_name}", "/models/{model_name}/invoke"} <= set(paths)


def test_workers_are_scaled_and_scaled_down(multi: Server, model: str) -> None:
    """PUT answers when the workers are there; those that are too many end; with none requests are 503."""
    multi.load(model)
    url = f"{multi.url}/models/{model}"
    answer = requests.put(f"{url}?min_worker=3&synchronous=true", timeout=20)
    assert (answer.status_code, answer.json()) == (200, {"status": "Workers scaled"})
    assert [each["status"] for each in multi.described(model)["workers"]] == ["READY"] * 3
    assert requests.put(f"{url}?min_worker=0&max_worker=0&synchronous=true", timeout=20).status_code == 200
    assert eventually(lambda: not multi.processes()["worker"])
    assert multi.invoke("echo", model).status_code == 503
    assert requests.put(f"{url}?min_worker=1", timeout=20).status_code == 202
    assert eventually(lambda: multi.invoke("echo on", model).text == "on")
    multi.unload(model)


def test_all_workers_together_are_limited(start: Callable[..., Server]) -> None:
    """A load beyond what open files allow is 507, on which the platform makes room; the other models go on."""
    three = "-Dsagemaker_inference_lite.max_workers=3"
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_VMARGS=three).ready()
    assert server.load("a", initial_workers=2).status_code == 200
    refused = server.load("b", initial_workers=2)
    assert refused.status_code == 507
    assert "2 more workers are asked for; the server has 2, and may have 3" in refused.json()["message"]
    never = server.load("b", initial_workers=4)
    assert never.status_code == 400  # no room that the platform makes would do
    assert "may have 3" in never.json()["message"]
    assert server.listed() == ["a"]
    assert requests.put(f"{server.url}/models/a?min_worker=4&synchronous=true", timeout=5).status_code == 507
    assert server.load("b").status_code == 200
    server.unload("a")
    assert server.load("c", initial_workers=2).status_code == 200
    assert server.invoke("echo on", "b").text == "on"
    assert server.stop() == 0


PREFIX = "sagemaker_inference_lite"

# SPDX-License-Identifier: Apache-2.0
"""A model's program is the module that its file says, for what lies beside it and for interpreters that it starts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from running_server import Server, serving

# What is asked for is the name of a function.
PROGRAM = """
import multiprocessing
import pickle
import subprocess
import sys

import {sibling}


class Point:
    def __init__(self, x):
        self.x = x


def double(point):
    return Point(2 * point.x)


def pooled(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(double, (Point(3),)).get(20)


def spawn():
    return pooled("spawn")


def forkserver():
    return pooled("forkserver")


def fork():
    return pooled("fork")


def loky():
    import joblib

    return joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(double)(Point(3)) for _ in range(2))[1]


def pickled():
    return pickle.loads(pickle.dumps(Point(6)))


def sibling():
    return {sibling}.point_of_inference(6)


def program():
    code = "import {module}; print(double(Point(3)).x)".replace("double(Point", "{module}.double({module}.Point")
    argv = [sys.executable, "-c", code]
    return Point(int(subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=20).stdout))


def model_fn(model_dir):
    return None


def predict_fn(name, model):
    found = globals()[name]()
    return [isinstance(found, Point), found.x, __name__, sys.modules["__main__"].__dict__.get("Zygote") is None]
"""

SIBLING = """
import {module}
from {module} import __name__ as NAME


def point_of_inference(x):
    from {module} import Point

    return Point(x)
"""

WAYS = ["spawn", "forkserver", "fork", "loky", "pickled", "sibling", "program"]

HANDLER = """
from sagemaker_inference_lite.default_handler_service import DefaultHandlerService

WHOSE = "the handler's"


class Handler(DefaultHandlerService):
    def postprocess(self, prediction, accept):
        self.context.set_response_header(0, "X-Whose", f"{WHOSE} {__name__}")
        return super().postprocess(prediction, accept)
"""


def _write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return directory


def _load(server: Server, name: str, files: dict[str, str]) -> requests.Response:
    directory = _write(server.base_dir / "models" / name / "model", files)
    return requests.post(f"{server.url}/models", json={"model_name": name, "url": str(directory)}, timeout=60)


def _ask(server: Server, name: str, what: str) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/models/{name}/invoke", f'"{what}"', headers=headers, timeout=60)
    assert answer.status_code == 200, server.output()
    return answer.json()


# Pools end their processes while what measures coverage writes its file.
UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": "", "SAGEMAKER_MULTI_MODEL": "true"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of several models, whose handler is a file that is called inference.py too."""
    image = _write(tmp_path_factory.mktemp("image"), {"inference": HANDLER, "helper": "raise RuntimeError"})
    base = tmp_path_factory.mktemp("base")
    with serving(base, f"{image / 'inference.py'}:Handler", **UNMEASURED) as server:
        plain = {"code/inference": PROGRAM.format(sibling="helper", module="inference")}
        plain["code/helper"] = SIBLING.format(module="inference")
        # Another interpreter could not import the program of a package by its own name: that is why it is asked late.
        late = "def point_of_inference(x):\n    import inference\n    return inference.Point(x)\n"
        package = {"code/__init__": "", "code/helper": late}
        package["code/inference"] = PROGRAM.replace("import {sibling}\n", "from . import {sibling}\n", 1).format(
            sibling="helper", module="code.inference"
        )
        for name, files in (("plain", plain), ("package", package)):
            assert _load(server, name, files).status_code == 200, server.output()
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_functions_and_classes_of_a_program_are_found(server: Server, way: str) -> None:
    """Other interpreters, however they are started, pickles and modules beside it find ``inference`` as it is."""
    assert _ask(server, "plain", way) == [True, 6, "inference", True]


@pytest.mark.parametrize("way", ["spawn", "loky", "pickled", "sibling", "program"])
def test_those_of_a_package_are_found_too(server: Server, way: str) -> None:
    """Where code/ is a package, the program is its module, imports relatively, and is ``inference`` for the others."""
    assert _ask(server, "package", way) == [True, 6, "code.inference", True]


def test_a_handler_of_that_name_is_another_module(server: Server) -> None:
    """A handler's inference.py and a model's are two modules, of which each does its own work."""
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/models/plain/invoke", '"pickled"', headers=headers, timeout=60)
    assert (answer.json()[2], answer.headers["X-Whose"]) == ("inference", "the handler's inference")


def test_models_with_one_name_for_their_modules_never_meet(server: Server) -> None:
    """Each model's program is ``inference``, in a process of its own, and so is what lies beside it."""
    program = "import helper\nSEEN = []\ndef model_fn(d): return None\ndef predict_fn(data, model):\n"
    program += "    SEEN.append(data)\n    return [helper.NAME, *SEEN]\n"
    for name in ("a", "b"):
        files = {"code/inference": program, "code/helper": f"NAME = {name!r}"}
        assert _load(server, name, files).status_code == 200
    for name in ("a", "b"):
        assert _ask(server, name, "x") == [name, "x"]


def test_a_program_by_another_name(tmp_path: Path) -> None:
    """SAGEMAKER_PROGRAM's file is the module of its own name, in this interpreter and in those it starts."""
    files = {
        "code/serve": PROGRAM.format(sibling="helper", module="serve"),
        "code/helper": SIBLING.format(module="serve"),
    }
    with serving(tmp_path, None, SAGEMAKER_PROGRAM="serve.py", **UNMEASURED) as server:
        assert _load(server, "m", files).status_code == 200, server.output()
        for way in ("spawn", "sibling", "program"):
            assert _ask(server, "m", way) == [True, 6, "serve", True]

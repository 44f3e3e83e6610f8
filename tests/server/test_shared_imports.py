# SPDX-License-Identifier: Apache-2.0
"""What one model had to import of the image is imported ahead for the others, whatever a package does meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import psutil
import pytest
from running_server import Server, all_gone, eventually, serving

# Packages of the image. Each is imported well by the load that needs it first.
PACKAGES = {
    "fine": "SEEN = []",
    "deep/__init__": "",
    "deep/inside": "",
    "crashes": """
import os, signal, sys
if FIRST:
    open(MARK, "w").close()
else:
    os.kill(os.getpid(), signal.SIGSEGV)
""",
    "raises": """
if FIRST:
    open(MARK, "w").close()
else:
    raise RuntimeError("not twice")
""",
    "hangs": """
import time
if FIRST:
    open(MARK, "w").close()
else:
    time.sleep(60)
""",
    "exits": """
import sys
if FIRST:
    open(MARK, "w").close()
else:
    sys.exit(0)
""",
    **{f"one_of_many_{number}": "" for number in range(30)},
    "threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server with these packages installed."""
    site = tmp_path_factory.mktemp("image") / "site-packages"
    for name, text in PACKAGES.items():
        path = site / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = f"{path}.mark"
        path.write_text(f"import os\nMARK = {mark!r}\nFIRST = not os.path.exists(MARK)\n{text}\n")
    with serving(
        tmp_path_factory.mktemp("base"),
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_STARTUP_TIMEOUT="4",
        OMP_NUM_THREADS="2",
        # What measures coverage adds to itself at each fork of a fork, and one template forks the next.
        COVERAGE_PROCESS_START="",
        COVERAGE_PROCESS_CONFIG="",
        PYTHONPATH=os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])),
    ) as server:
        yield server


def is_imported(server: Server, module: str, model: str) -> bool:
    """Whether a model that is loaded now, and does not need the module, finds it imported."""
    assert server.load(model).status_code == 200
    found = server.invoke(f"imported {module}", model).text
    server.unload(model)
    return found == "True"


def test_what_a_first_model_imported_the_next_finds_imported(server: Server, model: str) -> None:
    """The modules of an installed package, those inside it too, are imported ahead and said in the log."""
    assert not is_imported(server, "fine", f"{model}-0")
    assert server.load(f"{model}-1", "import fine deep.inside").status_code == 200
    assert is_imported(server, "fine", f"{model}-2")
    assert is_imported(server, "deep.inside", f"{model}-3")
    assert "for further workers to share: 2 packages (fine, deep)" in server.output()
    assert len(server.processes()["template"]) == 1


def test_models_do_not_see_what_others_do_to_a_shared_module(server: Server, model: str) -> None:
    """A model that changes a shared module's state changes its own copy."""
    for name in ("a", "b"):
        assert server.load(f"{model}-{name}", "import fine").status_code == 200
    assert [server.invoke(f"add fine {model}-{name}", f"{model}-{name}").text for name in ("a", "a", "b")] == [
        f"{model}-a",
        f"{model}-a {model}-a",
        f"{model}-b",
    ]
    assert server.load(f"{model}-c", "import fine").status_code == 200
    assert server.invoke("add fine c", f"{model}-c").text == "c"


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("crashes", "the process that imported it has ended"),
        ("hangs", "it takes longer than 4 seconds"),
        ("threads", "it starts threads (1), which a fork would lose"),
    ],
)
def test_a_package_that_cannot_be_shared_costs_a_line(server: Server, model: str, package: str, reason: str) -> None:
    """It is named and never tried again; what was imported beside it is shared, and no model notices."""
    assert server.load(f"{model}-0").status_code == 200
    (Path(server.base_dir) / "models").mkdir(exist_ok=True)
    assert server.load(f"{model}-1", f"import {package} json.tool").status_code == 200
    assert server.invoke("echo on", f"{model}-0").text == "on"
    assert eventually(lambda: f"the package {package} is not imported ahead: {reason}" in server.output())
    assert not is_imported(server, package, f"{model}-2")
    assert is_imported(server, "json.tool", f"{model}-3")
    assert [server.invoke("echo on", f"{model}-{number}").text for number in (0, 1)] == ["on", "on"]
    assert server.output().count(f"the package {package} is not imported ahead") == 1


@pytest.mark.parametrize("package", ["raises", "exits"])
def test_a_package_that_raises_is_passed_over(server: Server, model: str, package: str) -> None:
    """A module whose import raises, SystemExit too, is left out, and the others are shared."""
    assert server.load(f"{model}-1", f"import {package} wave").status_code == 200
    assert is_imported(server, "wave", f"{model}-2")
    assert not is_imported(server, package, f"{model}-3")


def test_a_model_s_own_modules_are_never_shared(server: Server, model: str) -> None:
    """Only packages of the image are imported ahead; a module of a model's own stays that model's."""
    directory = server.base_dir / "models" / f"{model}-1" / "model"
    directory.mkdir(parents=True)
    (directory / "of_its_own.py").touch()
    assert server.load(f"{model}-1", "import of_its_own").status_code == 200
    assert server.invoke("imported of_its_own", f"{model}-1").text == "True"
    assert not is_imported(server, "of_its_own", f"{model}-2")


def test_threads_of_numpy_survive(server: Server, model: str) -> None:
    """A worker of the import template multiplies matrices with two threads; numpy was imported before the fork."""
    assert server.load(f"{model}-1", "import numpy").status_code == 200
    assert server.load(f"{model}-2").status_code == 200
    assert server.invoke("imported numpy", f"{model}-2").text == "True"
    for name in ("1", "2"):
        assert server.invoke("multiply 600", f"{model}-{name}").text == str(600.0**3)


def test_an_heir_that_is_killed_is_replaced(server: Server, model: str) -> None:
    """Its workers go on, models are loaded meanwhile, and another import template comes."""
    assert server.load(f"{model}-1", "import fine").status_code == 200
    (template,) = eventually(lambda: server.processes()["template"])
    template.send_signal(signal.SIGKILL)
    assert eventually(lambda: all_gone([template]))
    assert server.invoke("echo on", f"{model}-1").text == "on"
    assert server.load(f"{model}-2").status_code == 200
    assert eventually(lambda: server.processes()["template"])
    assert is_imported(server, "fine", f"{model}-3")


def test_an_heir_that_is_stopped_is_replaced(server: Server, model: str) -> None:
    """A load waits for it for two seconds, the log says so, and another import template comes."""
    assert server.load(f"{model}-1", "import fine").status_code == 200
    (template,) = eventually(lambda: server.processes()["template"])
    template.suspend()
    begun = time.monotonic()
    assert server.load(f"{model}-2").status_code == 200
    assert time.monotonic() - begun < 8
    assert f"the import template (pid {template.pid}) has not answered for 2 s" in server.output()
    assert eventually(lambda: all_gone([template]) and server.processes()["template"])
    assert is_imported(server, "fine", f"{model}-3")


def test_many_templates_leave_one(server: Server, model: str) -> None:
    """Each model brings another package, and so another template; the last has all of them, and the others are gone."""
    for number in range(30):
        assert server.load(f"{model}-{number}", f"import one_of_many_{number}").status_code == 200
    assert is_imported(server, "one_of_many_0", f"{model}-first")
    assert is_imported(server, "one_of_many_29", f"{model}-last")
    assert eventually(lambda: len(server.processes()["template"]) == 1)
    for number in range(30):
        assert server.unload(f"{model}-{number}").status_code == 200


def test_nothing_outlives_the_zygote(start: Callable[..., Server]) -> None:
    """Template and workers end with a zygote that is killed, and the container with them."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    for number in range(2):
        assert server.load(f"m{number}", "import wave").status_code == 200
    processes = server.descendants()
    roles = server.processes()
    assert (len(roles["template"]), len(roles["worker"])) == (1, 2)
    roles["zygote"][0].send_signal(signal.SIGKILL)
    assert server.ended() == 137
    assert eventually(lambda: all_gone(processes))


def test_sharing_can_be_switched_off(start: Callable[..., Server]) -> None:
    """With SAGEMAKER_MODEL_SERVER_SHARE_IMPORTS=false each load imports for itself."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_SHARE_IMPORTS="false").ready()
    assert server.load("m", "import wave").status_code == 200
    assert not is_imported(server, "wave", "n")
    assert server.processes()["template"] == []
    assert psutil.pid_exists(server.process.pid)

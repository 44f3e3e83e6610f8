# SPDX-License-Identifier: Apache-2.0
"""What a load imported, and importing it ahead: in a process of its own, which it changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from sagemaker_inference_lite.worker import imports
directories = imports.image_directories(sys.path)
before = imports.latest_import()
{body}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Installed packages."""
    site = tmp_path / "site-packages"
    (site / "package").mkdir(parents=True)
    (site / "package" / "__init__.py").write_text("from . import inside\n")
    (site / "package" / "inside.py").touch()
    (site / "broken.py").write_text("1/0")
    (site / "leaves.py").write_text("raise SystemExit(3)")
    (site / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (site / "made_up.py").write_text(
        "import sys, types\nsys.modules['made_up.virtual'] = types.ModuleType('virtual')\n"
        "sys.modules['made_up.virtual'].__file__ = __file__\n"
    )
    return site


def run(site: Path, body: str) -> Any:
    """What the program prints, as JSON."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_what_was_imported_since(site: Path, tmp_path: Path) -> None:
    """Modules of the image in the order in which they were done; none of a model's own, none made up."""
    (tmp_path / "of_its_own.py").touch()
    body = f"""
import wave, package, made_up
sys.path.insert(0, {str(tmp_path)!r})
import of_its_own
print(json.dumps(imports.imported_since(before, directories)))
"""
    names = run(site, body)
    assert [name for name in names if name.startswith("package")] == ["package.inside", "package"]
    assert {"wave", "made_up"} < set(names)
    assert not {"of_its_own", "made_up.virtual", "sys", "json"} & set(names)


def test_importing_all(site: Path) -> None:
    """Each module that can be imported is, and each that cannot is named with what it raised."""
    body = """
said = []
names = ["package", "package.inside", "broken", "leaves", "nowhere", "wave"]
outcome = imports.import_all(names, said.append)
print(json.dumps([outcome, said, "package.inside" in sys.modules]))
"""
    (imported, failed, unsafe, reason), said, is_there = run(site, body)
    assert imported == ["package", "package.inside", "wave"]
    assert set(failed) == {"broken", "leaves", "nowhere"}
    assert failed["broken"].startswith("ZeroDivisionError: ")
    assert (unsafe, reason, is_there) == ("", "", True)
    assert said == ["package", "broken", "leaves", "nowhere", "wave"]


def test_a_package_that_starts_threads_ends_the_import(site: Path) -> None:
    """It is named, and nothing is imported after it."""
    body = "print(json.dumps(imports.import_all(['package', 'threads', 'wave'])))"
    imported, failed, unsafe, reason = run(site, body)
    assert (imported, failed, unsafe) == (["package", "threads"], {}, "threads")
    assert reason == "starts threads (1), which a fork would lose"

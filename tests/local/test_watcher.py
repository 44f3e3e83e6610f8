# SPDX-License-Identifier: Apache-2.0
"""Watching files: what counts as a change, however editors and tools write."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from running_server import eventually

from sagemaker_inference_lite.local.watcher import Watched, Watcher

watchfiles = pytest.importorskip("watchfiles", reason="watchfiles is not installed")

Watch = Callable[[Watched], list[Path]]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watches, and gives a list to which what has changed is added."""
    watchers = []

    def start(watched: Watched) -> list[Path]:
        seen: list[Path] = []

        def changed(paths: Sequence[Path]) -> None:
            seen.extend(paths)

        watchers.append(Watcher(watchfiles, watched, changed))
        watchers[-1].start()
        time.sleep(0.5)  # nothing says when it has begun
        return seen

    yield start
    for watcher in watchers:
        begun = time.monotonic()
        watcher.stop()
        assert time.monotonic() - begun < 2


def test_a_tree(watch: Watch, tmp_path: Path) -> None:
    """Files that are written, made, replaced and deleted below a directory are changes; caches and the like are not."""
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "inference.py").write_text("1")
    seen = watch(Watched(trees=(tmp_path,)))
    for name in ("__pycache__/inference.pyc", ".inference.py.swp", "inference.py~", ".#inference.py"):
        (tmp_path / "code" / name).write_text("x")
    (tmp_path / "code" / "inference.py").write_text("2")
    eventually(lambda: seen)
    assert set(seen) == {tmp_path / "code" / "inference.py"}
    seen.clear()
    (tmp_path / "new").write_text("3")
    (tmp_path / "new").replace(tmp_path / "code" / "inference.py")
    eventually(lambda: tmp_path / "code" / "inference.py" in seen)
    seen.clear()
    (tmp_path / "code" / "inference.py").unlink()
    eventually(lambda: tmp_path / "code" / "inference.py" in seen)


def test_a_file(watch: Watch, tmp_path: Path) -> None:
    """A file alone is watched by its name: what lies beside it is nobody's concern, and it may be another file."""
    (tmp_path / "model.joblib").write_text("1")
    seen = watch(Watched(files=(tmp_path / "model.joblib",)))
    (tmp_path / "notes").write_text("x")
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").replace(tmp_path / "model.joblib")
    eventually(lambda: seen)
    assert set(seen) == {tmp_path / "model.joblib"}
    seen.clear()
    (tmp_path / "model.joblib").unlink()
    (tmp_path / "model.joblib").write_text("3")
    eventually(lambda: seen)


def test_a_link(watch: Watch, tmp_path: Path) -> None:
    """What a link leads to is watched, and the link itself."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.joblib").write_text("1")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "model.joblib"
    link.symlink_to(tmp_path / "data" / "1.joblib")
    seen = watch(Watched(files=(link,)))
    (tmp_path / "data" / "1.joblib").write_text("2")
    eventually(lambda: seen)
    seen.clear()
    (tmp_path / "links" / "new").symlink_to("/etc/hostname")
    (tmp_path / "links" / "new").replace(link)
    eventually(lambda: link in seen)


def test_modules(watch: Watch, tmp_path: Path) -> None:
    """Of a handler, the modules beside it count too."""
    (tmp_path / "handler.py").write_text("1")
    seen = watch(Watched(modules=(tmp_path / "handler.py",)))
    (tmp_path / "data.csv").write_text("x")
    (tmp_path / "features.py").write_text("2")
    eventually(lambda: seen)
    assert set(seen) == {tmp_path / "features.py"}


def test_a_directory_that_comes_again(watch: Watch, tmp_path: Path) -> None:
    """One that is deleted and made anew, or that another takes the place of, is watched on."""
    tree = tmp_path / "model"
    tree.mkdir()
    seen = watch(Watched(trees=(tree,)))
    shutil.rmtree(tree)
    time.sleep(1)
    tree.mkdir()
    eventually(lambda: tree in seen)
    time.sleep(0.5)
    seen.clear()
    (tree / "file").write_text("x")
    eventually(lambda: tree / "file" in seen)

# SPDX-License-Identifier: Apache-2.0
"""The private directory that stands for /opt/ml."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagemaker_inference_lite.local.layout import laid_out, place
from sagemaker_inference_lite.local.model_paths import ModelPathError, find_models


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of the test's own for temporary ones, with a short path."""
    with tempfile.TemporaryDirectory(prefix="test-") as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        yield Path(directory)


def archive(path: Path, **files: bytes) -> Path:
    """A model.tar.gz."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_one_model_is_where_the_platform_puts_it(tmp_path: Path) -> None:
    """A file lies in model/ under its own name, as a link, so that what changes in it is seen."""
    path = tmp_path / "iris.joblib"
    path.write_bytes(b"1")
    with laid_out(find_models([str(path)])) as layout:
        assert layout.base_dir.stat().st_mode & 0o777 == 0o700
        linked = layout.base_dir / "model" / "iris.joblib"
        path.write_bytes(b"2")
        assert linked.read_bytes() == b"2"
        assert layout.shown == ((str(linked), str(path)), (str(linked.parent), str(path)))
    assert not layout.base_dir.exists()
    assert path.exists()


def test_several_models_are_where_the_platform_puts_them(tmp_path: Path) -> None:
    """Each has a directory model/ in one of its name: a link to a directory, or what an archive holds."""
    directory = tmp_path / "churn"
    directory.mkdir()
    (directory / "model.joblib").write_bytes(b"1")
    packed = archive(tmp_path / "fraud.tar.gz", model_joblib=b"2", code__inference_py=b"3")
    with laid_out(find_models([str(directory), str(packed)])) as layout:
        assert layout.directories["churn"] == layout.base_dir / "models" / "churn" / "model"
        assert layout.directories["churn"].resolve() == directory
        assert (layout.directories["fraud"] / "code" / "inference_py").read_bytes() == b"3"
    assert (directory / "model.joblib").exists(), "what was linked to stays"


def test_an_archive_is_unpacked_anew(tmp_path: Path, temporary: Path) -> None:
    """What an archive holds now takes the place of what it held, at once; where it cannot be unpacked, that stays."""
    packed = archive(tmp_path / "m.tar.gz", model=b"1")
    (model,) = find_models([str(packed)]).models
    with laid_out(find_models([str(packed)])) as layout:
        directory = layout.directories["m"]
        archive(packed, model=b"2")
        place(model, directory)
        assert (directory / "model").read_bytes() == b"2"
        packed.write_bytes(b"no archive")
        with pytest.raises(ModelPathError):
            place(model, directory)
        assert (directory / "model").read_bytes() == b"2"
        assert len(list(layout.base_dir.glob("model-*"))) == 1
    assert list(temporary.iterdir()) == []


def test_leftovers_are_removed_and_what_is_in_use_is_not(tmp_path: Path, temporary: Path) -> None:
    """A directory whose processes were all killed is removed by the next one; one that is in use stays."""
    path = tmp_path / "iris.joblib"
    path.write_bytes(b"1")
    left = temporary / "sil-serve-left"
    left.mkdir()
    (left / "lock").touch()
    with laid_out(find_models([str(path)])) as first:
        assert not left.exists()
        with laid_out(find_models([str(path)])):
            assert first.base_dir.exists()

# SPDX-License-Identifier: Apache-2.0
"""Finding a model's file, and asking what has a method predict or can be called.

What needs ONNX Runtime or PyTorch is in tests/frameworks/.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite import model_files
from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.memory import is_memory_error

# -- Loading -----------------------------------------------------------------------------------------------------------


def message_of(model_dir: Path, files: Iterable[str] = (), also_tried: str = "") -> str:
    """What the load of a directory with those files fails with."""
    for name in files:
        (model_dir / name).write_bytes(b"garbage")
    with pytest.raises(ModelError) as caught:
        model_files.load(str(model_dir), also_tried=also_tried)
    return str(caught.value)


def test_model_joblib_is_unpickled(tmp_path: Path) -> None:
    """A model.joblib may be any object."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump({"weights": [1, 2]}, tmp_path / "model.joblib")
    (tmp_path / "notes.txt").touch()
    assert model_files.load(str(tmp_path), gpu_id=0, environ={"OMP_NUM_THREADS": "2"}) == {"weights": [1, 2]}


def test_no_file_says_what_was_looked_for(tmp_path: Path) -> None:
    """Without any of the files the error says what is looked for, what was tried before, and what is there."""
    expected = "model.joblib or model.onnx or model.pt is not in"
    assert message_of(tmp_path) == f"There is no model to load: {expected} {tmp_path}, which holds nothing."
    message = message_of(tmp_path, ["model.bin"], also_tried="/m/code/inference.py is not there")
    assert message.startswith("There is no model to load: /m/code/inference.py is not there, and model.joblib or")
    assert message.endswith("which holds model.bin.")


def test_a_full_directory_is_not_listed_whole(tmp_path: Path) -> None:
    """Of many files the error names the first ten."""
    message = message_of(tmp_path, (f"{number:02}.bin" for number in range(20)))
    assert message.endswith("07.bin, 08.bin, 09.bin, ....")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A directory that has a model file's name is not taken for one."""
    (tmp_path / "model.onnx").mkdir()
    assert "There is no model to load" in message_of(tmp_path)


def test_more_than_one_file_is_refused(tmp_path: Path) -> None:
    """Nobody can tell which of two files is the model; the error names all of them."""
    message = message_of(tmp_path, ["model.pt", "model.joblib", "model.safetensors"])
    assert message.startswith(f"{tmp_path} holds model.joblib and model.pt and model.safetensors; expected one of them")


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    """A model.safetensors has no model in it; the error says what to write."""
    message = message_of(tmp_path, ["model.safetensors"])
    assert message.startswith(f"{tmp_path / 'model.safetensors'} holds weights only")
    assert "model_fn(model_dir)" in message


@pytest.mark.parametrize(
    ("name", "package"), [("model.joblib", "joblib"), ("model.onnx", "onnxruntime"), ("model.pt", "torch")]
)
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    """Where a file's library is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    message = message_of(tmp_path, [name])
    assert message.startswith(f"{tmp_path / name} needs the package {package}, which is not installed; add it to the")


def test_what_a_library_misses_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is installed, and misses another one, is not called missing."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "onnxruntime.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    message = message_of(tmp_path, ["model.onnx"])
    assert message.startswith(f"{tmp_path / 'model.onnx'} cannot be loaded: ModuleNotFoundError: ")
    assert "a_module_that_is_not_there" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A broken file fails the load with its path and the cause."""
    pytest.importorskip("joblib", reason="joblib is not installed")
    assert message_of(tmp_path, ["model.joblib"]).startswith(f"{tmp_path / 'model.joblib'} cannot be loaded: ")


class TooLarge:
    """A model that there is no memory for."""

    def __setstate__(self, state: object) -> None:
        raise MemoryError

    def __getstate__(self) -> object:
        return {"some": "state"}


def test_want_of_memory_can_be_told(tmp_path: Path) -> None:
    """A model that does not fit into memory is still known for that: its load is answered 507."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(TooLarge(), tmp_path / "model.joblib")
    with pytest.raises(ModelError) as caught:
        model_files.load(str(tmp_path))
    assert is_memory_error(caught.value)


# -- Asking ------------------------------------------------------------------------------------------------------------


class Predictor:
    """A model with the method that scikit-learn's have, which can also be called."""

    def predict(self, data: Any) -> Any:
        """The way that is preferred."""
        return data + 1

    def __call__(self, data: Any) -> Any:
        """The way that is not."""
        raise AssertionError


def test_a_model_is_asked_by_predict_or_called() -> None:
    """A model's method predict goes before a call of the model itself, and data reaches both as it is."""
    assert model_files.predict(1, Predictor()) == 2
    assert model_files.predict([1, 2], sum) == 3


def test_an_attribute_that_cannot_be_called_is_no_method() -> None:
    """A model that is called, and has an attribute predict, is called."""

    def model(data: Any) -> Any:
        return data

    vars(model)["predict"] = "an attribute"
    assert model_files.predict(1, model) == 1


def test_a_model_that_cannot_be_asked_is_a_clear_error() -> None:
    """A model with neither is a TypeError that names its type."""
    reason = "a model of type dict has no method predict and cannot be called"
    with pytest.raises(TypeError, match=reason):
        model_files.predict([1], {"weights": 1})
    assert model_files.why_mute({"weights": 1}) == reason
    assert model_files.why_mute(len) == model_files.why_mute(Predictor()) == ""


@pytest.mark.parametrize(
    "value", [[["1", 2.0]], [[None, "3"]], np.array([[b"1", 2.0]], object), np.array([["1", 2]], object)], ids=repr
)
def test_text_that_reads_like_a_number_is_none(value: object) -> None:
    """Where a model takes numbers, text among them is refused, though numpy would make a number of it."""
    with pytest.raises(ClientError, match="takes numbers"):
        model_files._cast(value, np.dtype(np.float32), "The model's input 'x'")


def test_numbers_of_any_kind_are_numbers() -> None:
    """Null, which stands for what is missing, is NaN among numbers; those of Python's decimal are numbers too."""
    value = np.array([None, Decimal("1.5"), True, 2, np.int8(3)], object)
    cast = model_files._cast(value, np.dtype(np.float32), "The model's input 'x'")
    assert np.array_equal(cast, [np.nan, 1.5, 1, 2, 3], equal_nan=True)


def test_frameworks_are_imported_by_their_files_alone(tmp_path: Path) -> None:
    """Loading and asking a model of scikit-learn imports neither torch nor onnxruntime."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(len, tmp_path / "model.joblib")
    code = (
        "import sys; from sagemaker_inference_lite import model_files; "
        f"assert model_files.predict([1, 2], model_files.load({str(tmp_path)!r})) == 2; "
        "sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

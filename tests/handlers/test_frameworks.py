# SPDX-License-Identifier: Apache-2.0
"""Finding a model's file, and asking what has a method predict or can be called.

What needs ONNX Runtime or PyTorch is in tests/frameworks/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.handlers import frameworks
from sagemaker_inference_lite.handlers.frameworks import casting, examples, kinds
from sagemaker_inference_lite.handlers.out_of_memory import is_memory_error

# -- Loading -----------------------------------------------------------------------------------------------------------


def message_of(model_dir: Path, files: Iterable[str] = (), also_tried: str = "") -> str:
    """What the load of a directory with those files fails with."""
    for name in files:
        (model_dir / name).write_bytes(b"garbage")
    with pytest.raises(ModelError) as caught:
        frameworks.load(str(model_dir), also_tried=also_tried)
    return str(caught.value)


def test_model_joblib_is_unpickled(tmp_path: Path) -> None:
    """A model.joblib may be any object."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump({"weights": [1, 2]}, tmp_path / "model.joblib")
    (tmp_path / "notes.txt").touch()
    assert frameworks.load(str(tmp_path), gpu_id=0, environ={"OMP_NUM_THREADS": "2"}) == {"weights": [1, 2]}


def test_no_file_says_what_was_looked_for(tmp_path: Path) -> None:
    """Without any of the files the error says what is looked for, what was tried before, and what is there."""
    names = "model.joblib, model.onnx, model.pt, model.ubj, model.json, model.txt or model.cbm"
    expected = f"none of {names} (nor one such file of another name) is in {tmp_path}, which holds nothing."
    assert message_of(tmp_path) == f"There is no model to load: {expected}"
    message = message_of(tmp_path, ["model.bin"], also_tried="/m/code/inference.py is not there")
    assert message.startswith("There is no model to load: /m/code/inference.py is not there, and none of model.joblib,")
    assert message.endswith("which holds model.bin.")


def test_a_full_directory_is_not_listed_whole(tmp_path: Path) -> None:
    """Of many files the error names the first ten."""
    message = message_of(tmp_path, (f"{number:02}.bin" for number in range(20)))
    assert message.endswith("07.bin, 08.bin, 09.bin, ....")


def test_a_file_of_another_name(tmp_path: Path) -> None:
    """The only file that can be a model is it, whatever its name; model.joblib and its like win."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump("other", tmp_path / "wine.joblib")
    for name in ("requirements.txt", "README.txt", "config.json", ".hidden.joblib"):
        (tmp_path / name).write_text("{}")
    assert frameworks.load(str(tmp_path)) == "other"
    joblib.dump("named", tmp_path / "model.joblib")
    assert frameworks.load(str(tmp_path)) == "named"


def test_two_files_of_other_names_are_refused(tmp_path: Path) -> None:
    """Nobody can tell which of the two is the model."""
    assert "holds b.joblib and a.onnx; expected one of them" in message_of(tmp_path, ["a.onnx", "b.joblib"])


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("a.joblib", b"", "joblib"),
        ("a.JOBLIB", b"", "joblib"),
        ("a.ubj", b"", "XGBoost"),
        ("a.json", b'{"learner":{}}', "XGBoost"),
        ("a.json", b'{"columns": ["a"]}', None),
        ("a.txt", b"tree\nversion=v4\n", "LightGBM"),
        ("a.txt", b"scikit-learn==1.5\n", None),
        ("a.cbm", b"", "CatBoost"),
        ("a.bin", b"", None),
    ],
)
def test_kinds(tmp_path: Path, name: str, content: bytes, title: str | None) -> None:
    """A name says what a file is; where others have such names too, its first bytes do."""
    (tmp_path / name).write_bytes(content)
    kind = kinds.kind_of(tmp_path / name)
    assert (kind.title if kind else None) == title


def test_what_was_meant_is_said(tmp_path: Path) -> None:
    """A model that is still packed, or behind a link that leads nowhere, is named with what to do."""
    packed = message_of(tmp_path, ["model.tar.gz"])
    assert "model.tar.gz is still packed: SageMaker unpacks a model before the server starts" in packed
    (tmp_path / "model.tar.gz").unlink()
    (tmp_path / "model.joblib").symlink_to("/nowhere/model.joblib")
    assert message_of(tmp_path).endswith("model.joblib is a link to /nowhere/model.joblib, which does not exist.")


def test_a_class_of_the_script_s_own(tmp_path: Path) -> None:
    """A model pickled by the script that defined its class says so, and how to mend it."""
    program = (
        "import joblib\nclass Model:\n    def predict(self, rows):\n        return rows\n"
        f"joblib.dump(Model(), {str(tmp_path / 'model.joblib')!r})"
    )
    pytest.importorskip("joblib", reason="joblib is not installed")
    subprocess.run([sys.executable, "-c", program], check=True)
    message = message_of(tmp_path)
    assert "Can't get attribute 'Model'" in message
    assert "move it into a module, such as code/features.py, import it from there in the script" in message


def test_a_package_that_a_pickle_needs(tmp_path: Path) -> None:
    """A package that the pickle was written with and that is missing is named as requirements.txt names it."""
    (tmp_path / "model.joblib").write_bytes(b"cskimage.nothing\nf\n(tR.")
    pytest.importorskip("joblib", reason="joblib is not installed")
    assert "Add a line scikit-image to the model's code/requirements.txt" in message_of(tmp_path)


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
    assert message.startswith(f"{tmp_path / name} needs the package {package}, which is not installed")
    assert f"Add a line {package} to the model's code/requirements.txt, or install it into the image." in message


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
        frameworks.load(str(tmp_path))
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
    assert frameworks.predict(1, Predictor()) == 2
    assert frameworks.predict([1, 2], sum) == 3


def test_an_attribute_that_cannot_be_called_is_no_method() -> None:
    """A model that is called, and has an attribute predict, is called."""

    def model(data: Any) -> Any:
        return data

    vars(model)["predict"] = "an attribute"
    assert frameworks.predict(1, model) == 1


def test_a_model_that_cannot_be_asked_is_a_clear_error() -> None:
    """A model with neither is a TypeError that names its type."""
    reason = "a model of type dict has no method predict and cannot be called"
    with pytest.raises(TypeError, match=reason):
        frameworks.predict([1], {"weights": 1})
    assert frameworks.why_mute({"weights": 1}) == reason
    assert frameworks.why_mute(len) == frameworks.why_mute(Predictor()) == ""


@pytest.mark.parametrize(
    "value", [[["1", 2.0]], [[None, "3"]], np.array([[b"1", 2.0]], object), np.array([["1", 2]], object)], ids=repr
)
def test_text_that_reads_like_a_number_is_none(value: object) -> None:
    """Where a model takes numbers, text among them is refused, though numpy would make a number of it."""
    with pytest.raises(ClientError, match="takes numbers"):
        casting.cast(value, np.dtype(np.float32), "The model's input 'x'")


def test_numbers_of_any_kind_are_numbers() -> None:
    """Null, which stands for what is missing, is NaN among numbers; those of Python's decimal are numbers too."""
    value = np.array([None, Decimal("1.5"), True, 2, np.int8(3)], object)
    cast = casting.cast(value, np.dtype(np.float32), "The model's input 'x'")
    assert np.array_equal(cast, [np.nan, 1.5, 1, 2, 3], equal_nan=True)


def test_frameworks_are_imported_by_their_files_alone(tmp_path: Path) -> None:
    """Loading and asking a model of scikit-learn imports neither torch nor onnxruntime."""
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(len, tmp_path / "model.joblib")
    code = (
        "import sys; from sagemaker_inference_lite.handlers import frameworks; "
        f"assert frameworks.predict([1, 2], frameworks.load({str(tmp_path)!r})) == 2; "
        "sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- What a model says of itself ---------------------------------------------------------------------------------------


class Estimator:
    """What scikit-learn's models look like from outside."""

    def __init__(self, count: int, names: tuple[str, ...] = ()) -> None:
        self.n_features_in_ = count
        if names:
            self.feature_names_in_ = np.array(names, object)

    def predict(self, rows: Any) -> Any:
        """One number for each row, as strictly as scikit-learn takes rows."""
        array = np.asarray(rows, np.float64)
        if array.ndim != 2 or array.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {array.shape} features")
        return array.sum(axis=1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.zeros((2, 3)), "takes rows of 2 numbers (a, b); the request's shape is [2, 3]"),
        (np.zeros(2), "send [[...]]"),
        (np.zeros(5), "the request's shape is [5]"),
        ([[1, 2], [3]], "rows are of different lengths"),
    ],
    ids=["too wide", "no brackets", "one dimension", "ragged"],
)
def test_a_request_of_another_width_is_the_client_s_mistake(data: object, reason: str) -> None:
    """400, with what the model says that it takes."""
    with pytest.raises(ClientError) as caught:
        frameworks.predict(data, Estimator(2, ("a", "b")))
    assert reason in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("value", ["red", None, float("nan"), {"a": 1}], ids=["text", "null", "NaN", "an object"])
def test_a_value_that_the_model_refuses_is_the_client_s_mistake(value: object) -> None:
    """400 where a value is something else than a finite number, with the library's own sentence."""

    class Strict(Estimator):
        def predict(self, rows: Any) -> Any:
            raise ValueError(f"Input X contains {rows[0][0]}.\n" + "more " * 1000)

    with pytest.raises(ClientError, match=r"not all finite numbers: Input X contains [^\n]*$") as caught:
        frameworks.predict([[value, 1.0]], Strict(2))
    assert caught.value.status == 400


def test_what_a_model_answers_is_its_answer() -> None:
    """A request of another width that the model takes is answered, and an error of one that fits stays as it is."""

    class Lenient(Estimator):
        def predict(self, rows: Any) -> Any:
            return "answered"

    class Broken(Estimator):
        def predict(self, rows: Any) -> Any:
            raise ValueError("a matrix that cannot be inverted")

    assert frameworks.predict(np.zeros((1, 9)), Lenient(2)) == "answered"
    with pytest.raises(ValueError, match="cannot be inverted"):
        frameworks.predict(np.zeros((1, 2)), Broken(2))


def test_an_example_fits_its_model() -> None:
    """The example of a model with a known width is answered by it."""
    model = Estimator(3, ("alcohol", "acid", "ash"))
    example = examples.example(model)
    assert example is not None
    assert example == ("application/json", "[[0.0, 0.0, 0.0]]", "rows of 3 numbers (alcohol, acid, ash)")
    assert examples.description(model).startswith("Estimator")


def test_examples_of_real_models() -> None:
    """A pipeline takes what its first step does: numbers, or texts."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.eye(4), [0, 1, 0, 1])
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad"], [1, 0])
    assert examples.description(numbers) == "Pipeline of StandardScaler, LogisticRegression (scikit-learn)"
    for model in (numbers, words):
        example = examples.example(model)
        assert example is not None
        assert len(model.predict(json.loads(example.body))) == 1


@pytest.mark.parametrize("model", [None, 1, object(), Predictor], ids=["None", "1", "object", "class"])
def test_no_example_is_made_up(model: object) -> None:
    """A model that says nothing of itself has no example, and asking raises nothing."""
    assert examples.example(model) is None
    assert examples.description(model) == ""

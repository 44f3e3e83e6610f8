# SPDX-License-Identifier: Apache-2.0
"""Models that need no code: the one obvious file of a model's directory, loaded and asked by the library it is for.

| file              | loaded with               | is                                                         |
|-------------------|---------------------------|------------------------------------------------------------|
| model.joblib      | joblib                    | any object of Python's; unpickled, so whatever it holds runs |
| model.onnx        | onnxruntime               | an InferenceSession, on the GPU where there is one         |
| model.pt          | torch (TorchScript)       | a module in eval mode, on the GPU where there is one       |
| model.safetensors | refused                   | weights alone, which say nothing of what to compute        |

None of these libraries is a dependency of ours, and none is imported before a file asks for it: each comes with what
the model was made with.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any, Callable, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.printable import named

Array = npt.NDArray[Any]


class Resources(NamedTuple):
    """What a model may use of the machine.

    Attributes:
        gpu_id: The GPU's number; None without one.
        threads: How many threads may compute one answer; None leaves it to the library.
    """

    gpu_id: int | None
    threads: int | None


def load(
    model_dir: str, gpu_id: int | None = None, environ: Mapping[str, str] | None = None, also_tried: str = ""
) -> object:
    """Loads the one model file of a directory.

    joblib unpickles, which runs whatever code the file holds. It is the file of the model's owner, whose code runs
    here anyway; no request's bytes are ever unpickled.

    Args:
        model_dir: The model's directory.
        gpu_id: The GPU for a model that can use one, where its library can; None for the CPU.
        environ: Of it OMP_NUM_THREADS, a worker's share of the CPUs, is the number of threads of an ONNX model, whose
            library takes all CPUs otherwise. joblib and torch heed the process's own by themselves.
        also_tried: What was looked for before, such as "/m/code/inference.py is not there": for the message where
            there is no file either.

    Returns:
        The model, as `predict` takes it.

    Raises:
        ModelError: There is no such file, more than one, or one that cannot be loaded; or its library is not
            installed. The message names the files, what was expected and what the directory holds.
    """
    path = _only_file(Path(model_dir), also_tried)
    resources = Resources(gpu_id, _threads(environ or {}))
    try:
        return _LOADERS[path.name](path, resources)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded: {named(error)}") from error


def predict(data: object, model: object) -> object:
    """Asks a model of any kind.

    - A Booster of xgboost's gets a DMatrix with the names and types of its own features, in which NaN and null are
      missing; one of LightGBM's gets rows of float64. Nothing but rows of numbers reaches them: of a text they, and
      xgboost's other models, would read the file that it names.
    - Any other with a method ``predict`` is asked by it.
    - An onnxruntime session gets each input as the type that the model declares. ``data`` is the input, or a dict with
      one value for each input's name. Whole numbers become floats where floats are declared, and floats that are
      whole become integers.
    - A torch module is called in inference mode, on its own device. Arrays, and lists that hold nothing but numbers,
      become tensors. Their floats get the dtype of the module's first floating parameter, float32 without one. So
      do their integers, because [[5, 3]] means the same as [[5.0, 3.0]] to most models; but in a module that has an
      embedding they stay int64, which is what looks a row up. A dict is handed over as keyword arguments.
    - Anything else is called.

    Args:
        data: As the codecs decode it: an array, or a list, dict, text or number.
        model: What `load` returned, or a model_fn.

    Returns:
        What the model does. Of a session that is the array of its one output, or a list with one for each, in the
        order in which they are declared; of a torch module its result with arrays in place of tensors (dtype as it
        was, float32 for bfloat16), inside tuples, lists and dicts too.

    Raises:
        ClientError: 400. data is not what the model declares: another shape, other names, text for numbers.
        TypeError: The model is none of these.
    """
    ask = _way_to_ask(model)
    if ask is None:
        raise TypeError(why_mute(model))
    return ask(data)


def why_mute(model: object) -> str:
    """Why a model could not be asked by `predict`, whatever the request; "" where it could."""
    if _way_to_ask(model) is not None:
        return ""
    return f"a model of type {type(model).__name__} has no method predict and cannot be called"


def _way_to_ask(model: Any) -> Callable[[Any], object] | None:
    own = getattr(model, "predict", None)
    kinds = _KINDS_WITH_PREDICT if callable(own) else _KINDS_WITHOUT
    for module, name, ask in kinds:
        if isinstance(model, _class_of(module, name)):
            return partial(ask, model)
    return next(filter(callable, (own, model)), None)


def _class_of(module: str, name: str) -> Any:
    """The class, or no class at all: there are no instances of it before its library has been imported."""
    return getattr(sys.modules.get(module), name, ())


# -- Finding and loading -----------------------------------------------------------------------------------------------


def _only_file(directory: Path, also_tried: str) -> Path:
    found = [name for name in _LOADERS if directory.joinpath(name).is_file()]
    if len(found) > 1:
        raise ModelError(f"{directory} holds {' and '.join(found)}; expected one of them, or a model_fn that chooses.")
    if not found:
        tried = f"{also_tried}, and " if also_tried else ""
        expected = " or ".join(name for name in _LOADERS if name != _WEIGHTS)
        raise ModelError(
            f"There is no model to load: {tried}{expected} is not in {directory}, which holds {_listed(directory)}."
        )
    return directory / found[0]


def _listed(directory: Path) -> str:
    names = sorted(path.name for path in directory.glob("*"))
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "nothing"


def _threads(environ: Mapping[str, str]) -> int | None:
    """OMP_NUM_THREADS, which may be a list with one number for each level of nesting; None where it is none."""
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _library(name: str, path: Path, hint: str = "") -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise  # it is installed, and misses something itself
        missing = f"{path} needs the package {name}, which is not installed"
        raise ModelError(f"{missing}; add it to the image{hint}.") from error


def _load_joblib(path: Path, resources: Resources) -> object:
    return _library("joblib", path, " (scikit-learn brings it)").load(path)


def _load_onnx(path: Path, resources: Resources) -> object:
    onnxruntime = _library("onnxruntime", path)
    options = onnxruntime.SessionOptions()
    if resources.threads:
        options.intra_op_num_threads = resources.threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if resources.gpu_id is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": resources.gpu_id}))
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)


def _load_torchscript(path: Path, resources: Resources) -> object:
    torch = _library("torch", path)
    has_gpu = resources.gpu_id is not None and torch.cuda.is_available()
    device = torch.device("cuda", resources.gpu_id) if has_gpu else torch.device("cpu")
    if zipfile.is_zipfile(path) and not _is_torchscript(path):
        raise ModelError(
            f"{path} is no TorchScript: torch.save wrote it, and it holds no code. Expected a file that torch.jit.save "
            "wrote, or a model_fn in code/inference.py that makes the model."
        )
    return torch.jit.load(str(path), map_location=device).eval()


def _is_torchscript(path: Path) -> bool:
    """Whether an archive has what torch.jit.save writes and torch.save does not."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _refuse_weights(path: Path, resources: Resources) -> object:
    raise ModelError(
        f"{path} holds weights only, and nothing says what to compute with them. Define in code/inference.py a "
        "model_fn(model_dir) that makes the model, fills it with safetensors.torch.load_model(model, path) or the "
        "like, and returns it."
    )


_WEIGHTS = "model.safetensors"

# In the order in which messages name them.
_LOADERS: dict[str, Callable[[Path, Resources], object]] = {
    "model.joblib": _load_joblib,
    "model.onnx": _load_onnx,
    "model.pt": _load_torchscript,
    _WEIGHTS: _refuse_weights,
}


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------

# What ONNX calls its types (onnxruntime's NodeArg.type) and numpy does; inputs of others are handed over as they are.
_ONNX_TYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(string)": np.object_,
    "tensor(bool)": np.bool_,
    **{f"tensor({kind}int{bits})": f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


def _run_session(session: Any, data: object) -> object:
    inputs = {each.name: each for each in session.get_inputs()}
    values = _named(data, inputs)
    outputs = session.run(None, {name: _onnx_input(values[name], each) for name, each in inputs.items()})
    return outputs[0] if len(outputs) == 1 else outputs


def _named(data: object, inputs: Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(data, dict) and len(inputs) == 1:
        return dict.fromkeys(inputs, data)
    if not isinstance(data, dict) or set(data) != set(inputs):
        found = f"one with {_quoted(data)}" if isinstance(data, dict) else "no object"
        raise ClientError(400, f"The model takes an object with {_quoted(inputs)}; the request has {found}.")
    return data


def _quoted(names: Mapping[str, object]) -> str:
    listed = ", ".join(repr(name)[:100] for name in list(names)[:20])
    return listed or "nothing"


def _onnx_input(value: object, declared: Any) -> object:
    dtype = _ONNX_TYPES.get(declared.type)
    if dtype is None:
        return value
    array = _cast(value, np.dtype(dtype), f"The model's input {declared.name!r}")
    fits = len(declared.shape) == array.ndim and all(
        not isinstance(expected, int) or expected == found for expected, found in zip(declared.shape, array.shape)
    )
    # Without a shape the model takes any, and a shape of no dimensions may stand for none that is known.
    if declared.shape and not fits:
        shape = [each if isinstance(each, int) else "any" for each in declared.shape]
        expected = str(shape).replace("'", "")
        raise ClientError(
            400, f"The model's input {declared.name!r} has the shape {expected}; the request's is {list(array.shape)}."
        )
    return array


def _cast(value: object, dtype: np.dtype[Any], what: str) -> Array:
    """The value as an array of that type, where that changes nothing in it but for rounding."""
    try:
        array = _as_array(value)
        with np.errstate(all="ignore"):
            cast = array.astype(dtype)
        is_kept = _is_kept(array, cast)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths, or with text among numbers
        is_kept = False
    if not is_kept:
        raise ClientError(400, f"{what} takes {_MEANT[dtype.kind]} ({dtype}); the request has other values.")
    return cast


def _is_kept(array: Array, cast: Array) -> bool:
    if cast.dtype.kind == "O":
        return array.dtype.kind == "U" or all(isinstance(each, str) for each in array.flat)
    if cast.dtype.kind == "f" and array.dtype.kind == "O":
        # Null, which stands for what is missing, is NaN then; but text that reads like a number is a number, too.
        return all(each is None or isinstance(each, Number) for each in array.flat)
    if cast.dtype.kind == "f":
        return array.dtype.kind in "biuf"
    return array.dtype.kind in "biuf" and bool(np.all(cast == array))


_MEANT = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true and false", "O": "text"}


def _as_array(value: object) -> Array:
    """The array that the value is or holds: of numbers where it holds nothing else, else of objects.

    Texts stay objects, because numpy gives each text of an array the room of the longest, and they are a client's.
    """
    if isinstance(value, np.ndarray):
        return value
    objects = np.array(value, dtype=np.object_)
    has_numbers_alone = all(issubclass(kind, _NUMBERS) for kind in set(map(type, objects.flat)))
    return np.asarray(value) if has_numbers_alone else objects


_NUMBERS = (int, float, np.number, np.bool_)


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def _run_module(module: Any, data: object) -> object:
    torch = sys.modules["torch"]
    to_tensor = _to_tensor(module, torch)
    with torch.inference_mode():
        if isinstance(data, dict):
            result = module(**{name: to_tensor(value) for name, value in data.items()})
        else:
            result = module(to_tensor(data))
        return _to_numpy(result, torch)


def _to_tensor(module: Any, torch: Any) -> Callable[[object], object]:
    """A function that makes tensors for a module of arrays of numbers, and leaves everything else as it is."""
    parameter = next((each for each in module.parameters() if each.is_floating_point()), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    device = next((each.device for each in _state(module)), torch.device("cpu"))

    def convert(value: object) -> object:
        array = _numbers(value)
        if array is None:
            return value
        if array.dtype.kind != "f" and _has_embedding(module, torch):
            whole = np.bool_ if array.dtype.kind == "b" else np.int64
            return torch.from_numpy(np.require(array, whole, _FOR_TORCH)).to(device)
        # Through a type that both know: numpy has no bfloat16.
        wide = np.float64 if dtype == torch.float64 else np.float32
        return torch.from_numpy(np.require(array, wide, _FOR_TORCH)).to(device, dtype)

    return convert


# Torch takes no negative strides, and warns of memory that cannot be written.
_FOR_TORCH: list[Literal["C", "W"]] = ["C", "W"]


def _state(module: Any) -> Iterator[Any]:
    yield from module.parameters()
    yield from module.buffers()


def _numbers(value: object) -> Array | None:
    """The value as an array of numbers; None where it is no array, and no list of nothing but numbers."""
    if not isinstance(value, (np.ndarray, list)):
        return None
    array = _as_array(value)
    if array.dtype.kind in "biuf":
        return array
    if isinstance(value, np.ndarray):
        raise ClientError(400, "The model takes numbers; the request has other values.")
    return None


# Modules do not change what they are made of, and looking through a large one takes a while.
_embeddings: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_EMBEDDINGS = ("Embedding", "EmbeddingBag")


def _has_embedding(module: Any, torch: Any) -> bool:
    if module not in _embeddings:
        kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
        is_among = any(isinstance(each, kinds) or _original_name(each) in _EMBEDDINGS for each in module.modules())
        # Freezing a scripted module dissolves what it is made of; what it does can still be seen.
        _embeddings[module] = is_among or "aten::embedding" in str(getattr(module, "inlined_graph", ""))
    return _embeddings[module]


def _original_name(module: Any) -> str:
    """The class that a scripted module was made of; its own is RecursiveScriptModule."""
    return str(getattr(module, "original_name", ""))


def _to_numpy(value: Any, torch: Any) -> object:
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(value, Mapping):
        return {name: _to_numpy(each, torch) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(_to_numpy(each, torch) for each in value)
    return value


# -- Boosted trees -----------------------------------------------------------------------------------------------------


def _run_xgboost(booster: Any, data: object) -> object:
    types = booster.feature_types
    matrix = sys.modules["xgboost"].DMatrix(
        _rows(data, booster.num_features()),
        feature_names=booster.feature_names,
        feature_types=types,
        enable_categorical="c" in (types or ()),
    )
    return booster.predict(matrix)


def _run_lightgbm(booster: Any, data: object) -> object:
    return booster.predict(_rows(data, booster.num_feature()))


def _rows(data: Any, features: int) -> object:
    """The rows of a request as float64, or as the sparse matrix that they are."""
    rows = data if hasattr(data, "tocsr") else _dense(data, features)
    if rows.ndim != 2 or rows.shape[1] != features:
        shape = list(rows.shape)
        raise ClientError(400, f"The model takes rows of {features} numbers; the request's shape is {shape}.")
    return rows


def _dense(data: object, features: int) -> Array:
    if not isinstance(data, (np.ndarray, list)):
        raise ClientError(400, f"The model takes rows of {features} numbers; the request is none.")
    return _cast(data, np.dtype(np.float64), "The model")


def _run_without_text(model: Any, data: object) -> object:
    """Asks a model whose own predict() takes a text for the name of a file."""
    if isinstance(data, (str, bytes)):
        raise ClientError(400, "The model takes rows of numbers; the request is text.")
    return model.predict(data)


_Kinds = tuple[tuple[str, str, Callable[[Any, Any], object]], ...]

# Models that are asked in a way of their own: what they are instances of, and what asks them.
_KINDS_WITH_PREDICT: _Kinds = (
    ("xgboost", "Booster", _run_xgboost),
    ("xgboost", "XGBModel", _run_without_text),
    ("lightgbm", "Booster", _run_lightgbm),
)
_KINDS_WITHOUT: _Kinds = (
    ("onnxruntime", "InferenceSession", _run_session),
    ("torch.nn", "Module", _run_module),
)

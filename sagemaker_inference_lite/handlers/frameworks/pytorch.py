# SPDX-License-Identifier: Apache-2.0
"""TorchScript files, and modules of PyTorch's."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Literal
from weakref import WeakKeyDictionary

import numpy as np

from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.handlers.frameworks.casting import Array, as_array
from sagemaker_inference_lite.handlers.frameworks.libraries import Resources, library


def load(path: Path, resources: Resources) -> object:
    """A module in eval mode, on the GPU where there is one."""
    torch = library("torch", path)
    has_gpu = resources.gpu_id is not None and torch.cuda.is_available()
    device = torch.device("cuda", resources.gpu_id) if has_gpu else torch.device("cpu")
    if zipfile.is_zipfile(path) and not _is_torchscript(path):
        raise ModelError(
            f"{path} is not TorchScript: torch.save wrote it, and it holds no code. Expected a file that "
            "torch.jit.save wrote, or a model_fn in code/inference.py that makes the model."
        )
    return torch.jit.load(str(path), map_location=device).eval()


def _is_torchscript(path: Path) -> bool:
    """Whether an archive has what torch.jit.save writes and torch.save does not."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def run(module: Any, data: object) -> object:
    """Calls a module in inference mode, on its own device."""
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
    array = as_array(value)
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

# SPDX-License-Identifier: Apache-2.0
"""ONNX models, asked by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sagemaker_inference_lite.errors import ClientError
from sagemaker_inference_lite.handlers.frameworks.casting import cast
from sagemaker_inference_lite.handlers.frameworks.libraries import Resources, library


def load(path: Path, resources: Resources) -> object:
    """An InferenceSession, on the GPU where there is one."""
    onnxruntime = library("onnxruntime", path)
    options = onnxruntime.SessionOptions()
    if resources.threads:
        options.intra_op_num_threads = resources.threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if resources.gpu_id is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": resources.gpu_id}))
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)


# What ONNX calls its types (onnxruntime's NodeArg.type) and numpy does; inputs of others are handed over as they are.
_ONNX_TYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(string)": np.object_,
    "tensor(bool)": np.bool_,
    **{f"tensor({kind}int{bits})": f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


def run(session: Any, data: object) -> object:
    """Asks a session: the array of its one output, or a list with one for each."""
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
    array = cast(value, np.dtype(dtype), f"The model's input {declared.name!r}")
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

# SPDX-License-Identifier: Apache-2.0
"""Model files of ONNX Runtime and PyTorch, loaded and asked in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.handlers import frameworks

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------


def onnx_model(directory: Path, inputs: dict[str, int], outputs: int = 1) -> Any:
    """A model of that many outputs, each the sum of the inputs (dtype by the name of ONNX's), loaded from its file."""
    from onnx import helper, save

    rows = ["rows", 2]
    (dtype,) = set(inputs.values())
    names = list(inputs)
    sums = [f"sum{number}" for number in range(outputs)]
    if len(names) == 1:
        nodes = [helper.make_node("Identity", names, [each]) for each in sums]
    else:
        nodes = [helper.make_node("Add", names, [each]) for each in sums]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(name, dtype, rows) for name in names],
        [helper.make_tensor_value_info(each, dtype, rows) for each in sums],
    )
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(directory / "model.onnx"))
    return frameworks.load(str(directory))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("FLOAT", np.float32),
        ("DOUBLE", np.float64),
        ("FLOAT16", np.float16),
        ("INT64", np.int64),
        ("INT32", np.int32),
        ("UINT8", np.uint8),
        ("BOOL", np.bool_),
    ],
)
def test_inputs_get_the_type_that_is_declared(tmp_path: Path, kind: str, dtype: type[np.generic]) -> None:
    """Numbers of any type reach a session as the one that it declares."""
    from onnx import TensorProto

    session = onnx_model(tmp_path, {"x": getattr(TensorProto, kind)})
    for data in (np.array([[1, 0]]), np.array([[1.0, 0.0]]), [[1, 0]], {"x": [[1, 0.0]]}, np.array([[1, 0]], ">i4")):
        answer = frameworks.predict(data, session)
        assert isinstance(answer, np.ndarray)
        assert (answer.dtype, answer.tolist()) == (dtype, [[1, 0]])


def test_text_stays_text(tmp_path: Path) -> None:
    """A session that takes text gets it, and refuses numbers, whose text nobody knows."""
    from onnx import TensorProto

    session = onnx_model(tmp_path, {"x": TensorProto.STRING})
    for data in (np.array([["a", "bc"]]), [["a", "bc"]]):
        answer: Any = frameworks.predict(data, session)
        assert answer.tolist() == [["a", "bc"]]
    with pytest.raises(ClientError, match="takes text"):
        frameworks.predict(np.array([[1, 2]]), session)


def test_missing_values_are_nan(tmp_path: Path) -> None:
    """JSON's null among numbers is NaN where the session takes floats."""
    from onnx import TensorProto

    answer: Any = frameworks.predict([[1, None]], onnx_model(tmp_path, {"x": TensorProto.FLOAT}))
    assert np.array_equal(answer, [[1, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("INT64", [[1.5, 2]], "input 'x' takes whole numbers (int64)"),
        ("INT64", [[None, 2]], "takes whole numbers (int64)"),
        ("INT64", np.array([[np.nan, 2]]), "takes whole numbers (int64)"),
        ("UINT8", [[-1, 2]], "takes whole numbers (uint8)"),
        ("UINT8", [[300, 2]], "takes whole numbers (uint8)"),
        ("BOOL", [[0.5, 1]], "takes true and false (bool)"),
        ("FLOAT", [["a", "b"]], "takes numbers (float32)"),
        ("FLOAT", np.array([["1", "2"]]), "takes numbers (float32)"),
        ("FLOAT", [[1, 2], [3]], "takes numbers (float32)"),
        ("FLOAT", "text", "takes numbers (float32)"),
        ("FLOAT", [[1, 2, 3]], "input 'x' has the shape [any, 2]; the request's is [1, 3]"),
        ("FLOAT", [1, 2], "has the shape [any, 2]; the request's is [2]"),
        ("FLOAT", {"y": [[1, 2]]}, "takes an object with 'x'; the request has one with 'y'"),
        ("FLOAT", {}, "takes an object with 'x'; the request has one with nothing"),
    ],
)
def test_what_a_session_cannot_take_is_400(tmp_path: Path, kind: str, data: object, says: str) -> None:
    """Other values, another shape and other names are the client's mistake, and the answer says what is expected."""
    from onnx import TensorProto

    session = onnx_model(tmp_path, {"x": getattr(TensorProto, kind)})
    with pytest.raises(ClientError) as caught:
        frameworks.predict(data, session)
    assert caught.value.status == 400
    assert says in str(caught.value)


def test_a_long_text_among_many_needs_no_room_for_each(tmp_path: Path) -> None:
    """A list with one long text is refused, or handed over, without an array that has that room for each."""
    from onnx import TensorProto

    texts = [["x" * 10_000_000, "y"], *([["a", "b"]] * 100_000)]
    session = onnx_model(tmp_path, {"x": TensorProto.STRING})
    answer: Any = frameworks.predict(texts, session)
    assert answer.shape == (100_001, 2)
    with pytest.raises(ClientError):
        frameworks.predict(texts, onnx_model(tmp_path, {"x": TensorProto.FLOAT}))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Inputs come by name, in any order; outputs are a list in the order in which the model declares them."""
    from onnx import TensorProto

    session = onnx_model(tmp_path, {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT}, outputs=2)
    answers: Any = frameworks.predict({"b": [[1, 2]], "a": np.array([[3, 4]])}, session)
    assert [each.tolist() for each in answers] == [[[4, 6]], [[4, 6]]]
    with pytest.raises(ClientError, match="takes an object with 'a', 'b'; the request has no object"):
        frameworks.predict([[1, 2]], session)


@pytest.mark.parametrize(("value", "threads"), [("3", 3), ("2,4", 2), ("", 0), ("all", 0), ("0", 0)])
def test_a_session_has_the_workers_threads(tmp_path: Path, value: str, threads: int) -> None:
    """OMP_NUM_THREADS is how many threads a session may have; 0, the library's choice, where it is no number."""
    from onnx import TensorProto

    onnx_model(tmp_path, {"x": TensorProto.FLOAT})
    session: Any = frameworks.load(str(tmp_path), environ={"OMP_NUM_THREADS": value})
    assert session.get_session_options().intra_op_num_threads == threads
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_a_gpu_that_the_library_cannot_use_is_no_error(tmp_path: Path) -> None:
    """With a gpu_id and libraries for CPUs alone, models are loaded on the CPU."""
    import torch
    from onnx import TensorProto

    onnx_model(tmp_path, {"x": TensorProto.FLOAT})
    session: Any = frameworks.load(str(tmp_path), gpu_id=0)
    assert session.get_providers()[-1] == "CPUExecutionProvider"
    (tmp_path / "model.onnx").unlink()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), tmp_path / "model.pt")
    module: Any = frameworks.load(str(tmp_path), gpu_id=0)
    assert torch.cuda.is_available() or next(module.parameters()).device.type == "cpu"


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def scripted(directory: Path, module: Any) -> Any:
    """The module written as model.pt and loaded from there."""
    import torch

    torch.jit.save(torch.jit.script(module), directory / "model.pt")
    return frameworks.load(str(directory))


def test_a_module_is_loaded_in_eval_mode(tmp_path: Path) -> None:
    """A module that was saved while it trained predicts all the same."""
    import torch

    module = scripted(tmp_path, torch.nn.Sequential(torch.nn.Dropout(0.9)).train())
    assert not module.training
    assert np.array_equal(frameworks.predict(np.ones((2, 3)), module), np.ones((2, 3)))  # type: ignore[arg-type] # an array


NUMBERS = [
    np.array([[1, 2]]),
    np.array([[1.0, 2.0]]),
    np.array([[1, 2]], ">i2"),
    np.array([[2.0, 1.0]], ">f4")[:, ::-1],
    [[1, 2]],
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("data", NUMBERS, ids=["int", "float", "big-endian", "reversed", "list"])
def test_numbers_get_the_dtype_of_the_parameters(tmp_path: Path, dtype: str, data: object) -> None:
    """Integers and floats reach a module as the dtype of its parameters, and come back as numpy's."""
    import torch

    linear = torch.nn.Linear(2, 1, dtype=getattr(torch, dtype))
    torch.nn.init.ones_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    for module in (linear, scripted(tmp_path, linear)):
        answer = frameworks.predict(data, module)
        assert isinstance(answer, np.ndarray)
        assert (answer.dtype, answer.tolist()) == ("float32" if dtype == "bfloat16" else dtype, [[3]])


def test_memory_that_cannot_be_written_is_no_obstacle() -> None:
    """An array over a client's bytes, which are read-only, is served without a warning of torch's."""
    import torch

    data = np.frombuffer(np.array([1, 2], np.float32).tobytes(), np.float32)
    assert np.array_equal(frameworks.predict(data, torch.nn.Identity()), [1, 2])  # type: ignore[arg-type] # an array


def embedder() -> Any:
    """A module that looks rows up and computes with them."""
    import torch

    return torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 2)).eval()


@pytest.mark.parametrize("kind", ["plain", "scripted", "traced", "frozen"])
def test_ids_of_an_embedding_stay_integers(tmp_path: Path, kind: str) -> None:
    """Integers for a module with an embedding are int64, however the module was made."""
    import torch

    module = plain = embedder()
    if kind == "scripted":
        module = scripted(tmp_path, plain)
    elif kind == "traced":
        module = torch.jit.trace(plain, torch.tensor([[1, 2]]))
    elif kind == "frozen":
        module = torch.jit.freeze(torch.jit.script(plain))
    answer: Any = frameworks.predict(np.array([[1, 2, 3]], np.int32), module)
    assert np.allclose(answer, plain(torch.tensor([[1, 2, 3]])).detach().numpy())


def test_a_dict_is_keyword_arguments() -> None:
    """A JSON object with arrays is handed over by name; what is no array stays as it is."""
    import torch

    class Module(torch.nn.Module):  # type: ignore[misc] # torch is not seen by the type checker
        def forward(self, ids: Any, scale: Any, words: Any) -> Any:
            assert (ids.dtype, scale, words) == (torch.float32, 2, ["a", "b"])
            return {"scaled": ids * scale, "kept": [words, (ids,)]}

    answer: Any = frameworks.predict({"words": ["a", "b"], "ids": [[1, 2]], "scale": 2}, Module())
    assert answer["scaled"].tolist() == [[2, 4]]
    assert answer["kept"][0] == ["a", "b"]
    assert isinstance(answer["kept"][1], tuple)
    assert answer["kept"][1][0].tolist() == [[1, 2]]


def test_nothing_is_recorded_for_training() -> None:
    """A module is called in inference mode."""
    import torch

    class Module(torch.nn.Module):  # type: ignore[misc] # torch is not seen by the type checker
        def forward(self, data: Any) -> Any:
            return torch.is_inference_mode_enabled(), data.is_inference()

    assert frameworks.predict(np.ones(1), Module()) == (True, True)


def test_text_for_a_module_is_400() -> None:
    """An array of text, such as CSV with words in it, is the client's mistake."""
    import torch

    with pytest.raises(ClientError, match="takes numbers"):
        frameworks.predict(np.array([["a", "b"]]), torch.nn.Linear(2, 1))


def test_what_torch_save_wrote_is_named(tmp_path: Path) -> None:
    """A state_dict in model.pt is refused with what was expected; so is a file that torch did not write."""
    import torch

    torch.save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"model.pt is not TorchScript: torch.save wrote it.*model_fn"):
        frameworks.load(str(tmp_path))


@pytest.mark.parametrize("name", ["model.pt", "model.onnx"])
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    """What the library says of a file that it cannot read is in the error, with the file's path."""
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        frameworks.load(str(tmp_path))
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.__cause__ is not None

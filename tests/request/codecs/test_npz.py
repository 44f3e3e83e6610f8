# SPDX-License-Identifier: Apache-2.0
"""application/x-npz: arrays, sparse matrices, and archives that mean harm."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bodies
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import NPZ
from sagemaker_inference_lite.errors import NotAcceptableError

FORMATS = ["csr", "csc", "coo", "dia", "bsr"]
# Of "a" and "a.npy" numpy's own reader takes the one for the other.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), max_size=10).filter(
    lambda name: not name.endswith(".npy")
)


def archive(write: Callable[..., None], *args: Any, **arrays: Any) -> bytes:
    """What numpy's own functions write."""
    stream = io.BytesIO()
    write(stream, *args, **arrays)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    """The array as NPY; objects are pickled."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of those files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def refusal(body: bytes, status: int = 400) -> str:
    """The message that a body is refused with."""
    return bodies.refusal(body, NPZ, status)


def patched(body: bytes, offset: int, form: str, value: int, signature: bytes = b"PK\1\2") -> bytes:
    """The archive with a number changed in its last header of that kind."""
    out = bytearray(body)
    struct.pack_into(form, out, body.rindex(signature) + offset, value)
    return bytes(out)


# -- Arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_single_array_is_itself(write: Any) -> None:
    """np.savez(file, x) decodes to x, stored or deflated."""
    array = decode(archive(write, np.eye(3)), NPZ)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == np.eye(3).tolist()
    array[0, 0] = 5


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_named_arrays_are_a_dict(write: Any) -> None:
    """Arrays under names decode to a dict by those names; so do several without, and one under a name of its own."""
    decoded: Any = decode(archive(write, np.eye(2), np.arange(3), labels=np.array(["a", "bb"])), NPZ)
    assert {name: array.tolist() for name, array in decoded.items()} == {
        "arr_0": [[1, 0], [0, 1]],
        "arr_1": [0, 1, 2],
        "labels": ["a", "bb"],
    }
    assert decode(archive(write, x=np.arange(2)), NPZ).keys() == {"x"}  # type: ignore[attr-defined]


def test_an_archive_of_nothing_is_an_empty_dict() -> None:
    """An archive without members holds no array."""
    assert decode(encode({}, NPZ)[0], NPZ) == {}


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from("?bBhHiIlLqQefdFDUSM"), st.lists(st.integers(0, 3), max_size=3)))
)
def test_arrays_survive_a_round_trip(members: dict[str, tuple[str, list[int]]]) -> None:
    """Names, shapes, types and values are kept, and numpy reads what is written."""
    arrays = {
        name: np.arange(np.prod(shape, dtype=int))
        .astype({"M": "M8[s]", "U": "U3", "S": "S3"}.get(kind, kind))
        .reshape(shape)
        for name, (kind, shape) in members.items()
    }
    body, content_type = encode(arrays, NPZ)
    assert content_type == NPZ
    decoded = decode(body, NPZ)
    if arrays.keys() == {"arr_0"}:
        decoded = {"arr_0": decoded}
    assert isinstance(decoded, dict)
    assert list(decoded) == list(arrays)
    with np.load(io.BytesIO(body)) as loaded:
        for name, array in arrays.items():
            for found in (decoded[name], loaded[name]):
                assert found.dtype == array.dtype
                assert np.array_equal(found, array)


def test_large_archives_are_decoded() -> None:
    """25 MB are decoded, stored or deflated."""
    array = np.random.default_rng(1).random((1000, 3200))
    for write in (np.savez, np.savez_compressed):
        assert np.array_equal(decode(archive(write, array), NPZ), array)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [{"a": [[1], [2, 3]]}, {"a": object()}, {1: [1]}, {"a/b": [1]}, {"a": None}, [{}]])
def test_what_npz_cannot_hold_is_406(value: object) -> None:
    """Ragged lists, objects, and names that are no text or have slashes, are refused."""
    with pytest.raises(NotAcceptableError, match="application/x-npz"):
        encode(value, NPZ)


# -- Archives that mean harm -------------------------------------------------------------------------------------------


class Touches:
    """Once unpickled, it has touched a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_not_run(tmp_path: Path) -> None:
    """An array of objects is refused, and the code that it holds does not run; nor does that of a bare pickle."""
    bomb = Touches(tmp_path / "touched")
    for content in (npy(np.array([bomb], dtype=object)), pickle.dumps(bomb)):
        refusal(zipped({"arr_0.npy": content}))
    assert "not unpickled" in refusal(archive(np.savez, np.array([bomb], dtype=object)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a.txt", "a/b.npy", "../a.npy", "/a.npy", "a\\b.npy", "a/"])
def test_members_that_are_no_arrays_are_400(name: str) -> None:
    """A member that is no NPY file, or lies in a directory, is refused."""
    assert "not an NPY file at the top" in refusal(zipped({name: npy(np.eye(2))}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_400() -> None:
    """Of two arrays of one name neither is preferred."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("a.npy", npy(np.eye(2)))
        made.writestr("a.npy", npy(np.eye(3)))
    assert "several members of one name" in refusal(stream.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_400(method: int) -> None:
    """Members are stored or deflated, which is all that numpy writes."""
    assert "neither stored nor deflated" in refusal(zipped({"a.npy": npy(np.eye(2))}, method))


def test_encrypted_members_are_400() -> None:
    """A member that says it is encrypted is refused."""
    assert "is encrypted" in refusal(patched(zipped({"a.npy": npy(np.eye(2))}), 8, "<H", 1))


def test_a_wrong_sum_is_400() -> None:
    """A member whose CRC is not what its entry says is damaged."""
    body = zipped({"a.npy": npy(np.eye(2))})
    assert "CRC" in refusal(patched(body, 16, "<L", 1))
    assert "CRC" in refusal(body.replace(struct.pack("<d", 1.0), struct.pack("<d", 2.0), 1))


@pytest.mark.parametrize("change", [-1, 1, 1000, 2**31])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sizes_that_lie_are_refused(change: int, method: int) -> None:
    """An entry that states another size than its member unpacks to is refused, before or after it is unpacked."""
    content = npy(np.eye(2))
    refusal(
        patched(zipped({"a.npy": content}, method), 24, "<L", len(content) + change), 413 if change > 2**30 else 400
    )


def test_members_that_overlap_are_400() -> None:
    """Two entries that share their bytes would unpack one archive many times over."""
    body = zipped({"a.npy": npy(np.eye(2)), "b.npy": npy(np.eye(2))})
    assert "overlaps another" in refusal(patched(body, 42, "<L", 0))


@pytest.mark.parametrize("cut", range(1, 400, 13))
def test_truncated_archives_are_400(cut: int) -> None:
    """An archive that is cut short anywhere, or has something around it, is refused."""
    body = zipped({"a.npy": npy(np.eye(3))})
    refusal(body[:-cut])
    refusal(body[cut:])
    refusal(b"\0" * cut + body)
    refusal(body + b"\0" * cut)


@pytest.mark.parametrize("body", [b"", b"PK", b"PK\5\6" + b"\0" * 17, b"text" * 10, npy(np.eye(2))])
def test_what_is_no_archive_is_400(body: bytes) -> None:
    """A body that is no ZIP archive is refused."""
    assert "is not NPZ" in refusal(body)


def test_members_of_which_one_is_bad_are_400_with_its_name() -> None:
    """What is wrong with a member is said with its name."""
    assert "'b.npy'" in refusal(zipped({"a.npy": npy(np.eye(2)), "b.npy": npy(np.eye(2))[:-1]}))


def test_more_than_a_thousand_members_are_413() -> None:
    """The number of members is limited, in both directions."""
    arrays = {str(place): np.zeros(1) for place in range(1000)}
    assert len(decode(encode(arrays, NPZ)[0], NPZ)) == 1000  # type: ignore[arg-type]
    arrays["one more"] = np.zeros(1)
    assert "1001 members" in refusal(archive(np.savez, **arrays), 413)
    with pytest.raises(NotAcceptableError, match="at most 1000"):
        encode(arrays, NPZ)


# -- Sparse matrices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_are_decoded_as_scipy_saves_them(name: str, compressed: bool, kind: str) -> None:
    """scipy.sparse.save_npz's files decode to the matrix, in its format, and are written so that scipy loads them."""
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    dense = np.array([[1.5, 0, 0, 2], [0, 0, 3, 0]])
    make = getattr(sparse, f"{name}_{kind}", None)
    if make is None:
        pytest.skip(f"this scipy has no {name}_{kind}")
    matrix = make(dense)
    stream = io.BytesIO()
    sparse.save_npz(stream, matrix, compressed=compressed)
    matrix = sparse.load_npz(io.BytesIO(stream.getvalue()))  # before scipy 1.12 an array is loaded as a matrix
    decoded: Any = decode(stream.getvalue(), NPZ)
    assert type(decoded) is type(matrix)
    assert decoded.dtype == matrix.dtype
    assert decoded.toarray().tolist() == dense.tolist()
    loaded = sparse.load_npz(io.BytesIO(encode(decoded, NPZ)[0]))
    assert type(loaded) is type(matrix)
    assert loaded.toarray().tolist() == dense.tolist()


@settings(deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from(["float32", "float64", "int8", "int64", "complex128", "bool"]),
    st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=6),
)
def test_sparse_matrices_survive_a_round_trip(name: str, dtype: str, rows: list[list[int]]) -> None:
    """Format, type, shape and values are kept."""
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    matrix = sparse.csr_matrix(np.array(rows).astype(dtype)).asformat(name)
    decoded: Any = decode(encode(matrix, NPZ)[0], NPZ)
    assert (decoded.format, decoded.dtype, decoded.shape) == (name, matrix.dtype, matrix.shape)
    assert np.array_equal(decoded.toarray(), matrix.toarray())


CSR: dict[str, Any] = {
    "format": np.array(b"csr"),
    "shape": np.array([2, 3]),
    "data": np.array([1.0, 2.0]),
    "indices": np.array([0, 2]),
    "indptr": np.array([0, 1, 2]),
}
COO: dict[str, Any] = {
    "format": np.array("coo"),
    "shape": np.array([2, 3]),
    "data": np.array([1.0, 2.0]),
    "row": np.array([0, 1]),
    "col": np.array([0, 2]),
}
DIA: dict[str, Any] = {
    "format": np.array(b"dia"),
    "shape": np.array([2, 3]),
    "data": np.array([[1.0, 2.0]]),
    "offsets": np.array([0]),
}
BSR = {**CSR, "format": np.array(b"bsr"), "data": np.ones((2, 1, 1))}


@pytest.mark.parametrize(
    "members",
    [
        CSR,
        {**CSR, "format": np.array(b"csc"), "indptr": np.array([0, 1, 1, 2]), "indices": np.array([0, 1])},
        COO,
        DIA,
        BSR,
    ],
)
def test_sparse_members_may_be_bytes_or_text(members: dict[str, Any]) -> None:
    """The format is bytes or text, as scipy wrote it at one time or another."""
    pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    assert decode(archive(np.savez, **members), NPZ).shape == (2, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "members",
    [
        {**CSR, "indices": np.array([0, 3])},
        {**CSR, "indices": np.array([0, -1])},
        {**CSR, "indices": np.array([0, 2**40])},
        {**CSR, "indices": np.array([0.0, 1.0])},
        {**CSR, "indices": np.array([[0, 1]])},
        {**CSR, "indptr": np.array([0, 1])},
        {**CSR, "indptr": np.array([0, 5, 2])},
        {**CSR, "indptr": np.array([0, 1, 5])},
        {**CSR, "indptr": np.array([1, 1, 2])},
        {**CSR, "indptr": np.array([0, -1, 2])},
        {**CSR, "data": np.array([1.0])},
        {**CSR, "data": np.array(["a", "b"])},
        {**CSR, "data": np.zeros(2, "f8,i4")},
        {**CSR, "shape": np.array([2, -3])},
        {**CSR, "shape": np.array([2])},
        {**CSR, "shape": np.array([2.0, 3.0])},
        {**CSR, "shape": np.array([2**62, 2**62])},
        {**CSR, "format": np.array(b"lil")},
        {**CSR, "format": np.array(b"\xff")},
        {**CSR, "format": np.array([b"csr", b"csr"])},
        {**CSR, "format": np.array(1)},
        {**CSR, "format": np.array(b"coo")},
        {**COO, "row": np.array([0, 2])},
        {**COO, "row": np.array([0, -1])},
        {**COO, "col": np.array([0, 3])},
        {**COO, "col": np.array([0])},
        {**DIA, "offsets": np.array([0, 1])},
        {**DIA, "offsets": np.array([0, 0]), "data": np.ones((2, 2))},
        {**DIA, "data": np.array(1.0)},
        {**BSR, "data": np.ones((2, 2, 2))},
        {**BSR, "data": np.ones((2, 0, 0))},
        {**BSR, "indices": np.array([0, 5])},
    ],
)
def test_sparse_matrices_that_contradict_themselves_are_400(members: dict[str, Any]) -> None:
    """Indices that lie outside of the shape would have native code read or write elsewhere: none gets through."""
    pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    assert "no valid sparse matrix" in refusal(archive(np.savez, **members))


def test_other_sparse_formats_are_406() -> None:
    """A format that scipy does not save is refused, and the message lists those that it does."""
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    with pytest.raises(NotAcceptableError, match="in lil; expected one of csr"):
        encode(sparse.lil_matrix(np.eye(2)), NPZ)


def test_a_dict_that_only_resembles_a_sparse_matrix_is_a_dict() -> None:
    """Without indices, members named as scipy's are arrays like others."""
    members = {"format": np.array(b"csr"), "shape": np.array([1, 1]), "data": np.ones(1)}
    assert decode(archive(np.savez, **members), NPZ).keys() == members.keys()  # type: ignore[attr-defined]

# SPDX-License-Identifier: Apache-2.0
"""application/x-npz: arrays of numpy (numpy.savez) and sparse matrices of scipy (scipy.sparse.save_npz)."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from sagemaker_inference_lite.codecs.arrays import Array, as_array
from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.codecs.libraries import imported, reason_of
from sagemaker_inference_lite.codecs.npy_codec import read_npy, write_npy
from sagemaker_inference_lite.content_types import MAX_QUOTED, NPZ, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError

_MAX_MEMBERS = 1000
# Python's zipfile takes time with the square of an entry's extra field. numpy's entries have less than a hundred bytes.
_MAX_DIRECTORY_BYTES = 256 * 1024

_SUFFIX = ".npy"
_ONLY_MEMBER = "arr_0"
_CHUNK_BYTES = 1024 * 1024

# APPNOTE.TXT of PKWARE's, sections 4.3.7, 4.3.15, 4.3.16 and 4.4.4.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_ZIP64_LOCATOR_BYTES = 20
_ZIP64_LOCATOR_SIGNATURE = b"PK\6\7"
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1


def decode_npz(body: bytes, media_type: MediaType) -> object:
    """Decodes application/x-npz: a ZIP archive of NPY files, stored or deflated.

    Returns:
        The array where the archive has the single member ``arr_0`` (``np.savez(file, x)``); the sparse matrix where
        it holds one as scipy.sparse.save_npz writes it (CSR, CSC, COO, DIA and BSR; not made dense, and its indices
        lie within its shape); otherwise a dict of arrays by name. Arrays are writable.

    Raises:
        UnsupportedMediaTypeError: It holds a sparse matrix, and scipy is not here, or cannot be imported.
        ClientError: 400. The body is no such archive: it is damaged, encrypted or compressed otherwise, has members
            that overlap, lie in directories or are no arrays, or holds objects (which would have to be unpickled).
        ClientError: 413. It unpacks to more than a body may expand to, or has more than 1,000 members.
    """
    arrays = _members(body)
    if arrays.keys() == {_ONLY_MEMBER}:
        return arrays[_ONLY_MEMBER]
    return _sparse_matrix(arrays) if _is_sparse(arrays) else arrays


# -- Archives ----------------------------------------------------------------------------------------------------------


def _members(body: bytes) -> dict[str, Array]:
    _check_directory(body)
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
            _check_entries(entries, body)
            room = ExpansionLimit(len(body))
            for entry in entries:
                room.take(entry.file_size, f"The member {entry.filename[:MAX_QUOTED]!r} of the NPZ")
            return {entry.filename[: -len(_SUFFIX)]: _array(archive, entry) for entry in entries}
    except (ClientError, MemoryError):
        raise
    # Beside BadZipFile, zipfile lets out NotImplementedError, RuntimeError, EOFError, struct.error and zlib.error.
    except Exception as error:
        raise ClientError(400, f"The body cannot be read as NPZ: {reason_of(error)}.") from error


def _check_directory(body: bytes) -> None:
    """Refuses what zipfile would take long, or much memory, to find out about."""
    if len(body) < _END.size or not body.startswith(b"PK"):
        raise ClientError(400, "The body is not NPZ: it is not a ZIP archive.")
    end = len(body) - _END.size
    signature, disk, first_disk, _, count, size, offset, comment = _END.unpack_from(body, end)
    has_locator = body.startswith(_ZIP64_LOCATOR_SIGNATURE, max(0, end - _ZIP64_LOCATOR_BYTES))
    if signature != _END_SIGNATURE or disk or first_disk or comment or has_locator or offset + size != end:
        raise ClientError(
            400, "The body is not NPZ: it does not end with the directory of a ZIP archive, or has something around it."
        )
    if count > _MAX_MEMBERS or size > _MAX_DIRECTORY_BYTES:
        raise ClientError(413, f"The NPZ has {count} members; expected at most {_MAX_MEMBERS}, with short names.")


def _check_entries(entries: list[zipfile.ZipInfo], body: bytes) -> None:
    names = {entry.filename for entry in entries}
    if len(names) != len(entries):
        raise ClientError(400, "The NPZ has several members of one name.")
    if len(entries) > _MAX_MEMBERS:
        raise ClientError(413, f"The NPZ has {len(entries)} members; expected at most {_MAX_MEMBERS}.")
    end = 0
    for entry in sorted(entries, key=lambda each: each.header_offset):
        _check_entry(entry)
        if entry.header_offset < end:
            raise _bad_member(entry, "overlaps another")
        name_length, extra_length = struct.unpack_from("<2H", body, entry.header_offset + _LOCAL_HEADER_BYTES - 4)
        end = entry.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length + entry.compress_size


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if not entry.filename.endswith(_SUFFIX) or "/" in entry.filename or "\\" in entry.filename:
        raise _bad_member(entry, "is not an NPY file at the top of the archive")
    if entry.flag_bits & _ENCRYPTED:
        raise _bad_member(entry, "is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad_member(entry, "is neither stored nor deflated")


def _bad_member(entry: zipfile.ZipInfo, problem: str) -> ClientError:
    return ClientError(400, f"The member {entry.filename[:MAX_QUOTED]!r} of the NPZ {problem}.")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    content = _content(archive, entry)
    try:
        return read_npy(content)
    except ClientError as error:
        raise _bad_member(entry, f"cannot be read: {error.message}".rstrip(".")) from error


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray:
    """What a member unpacks to, which is as long as its entry says, and has the sum that is said there."""
    content = bytearray(entry.file_size)
    rest = memoryview(content)
    with archive.open(entry) as stream:
        # In pieces, because zipfile builds what it is asked for from smaller ones. With the last one it checks the sum.
        while rest:
            piece = stream.read(min(len(rest), _CHUNK_BYTES))
            if not piece:
                raise _bad_member(entry, f"unpacks to less than the {entry.file_size} bytes that it states")
            rest[: len(piece)] = piece
            rest = rest[len(piece) :]
    return content


# -- Sparse matrices ---------------------------------------------------------------------------------------------------

# What scipy.sparse.save_npz writes beside format, shape and data.
_INDEX_NAMES = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}


def _is_sparse(arrays: Mapping[str, Array]) -> bool:
    has_indices = any(all(name in arrays for name in names) for names in _INDEX_NAMES.values())
    return has_indices and all(name in arrays for name in ("format", "shape", "data"))


def _sparse_matrix(arrays: Mapping[str, Array]) -> object:
    if importlib.util.find_spec("scipy") is None:
        raise UnsupportedMediaTypeError("The NPZ holds a sparse matrix, which this server cannot read: it lacks scipy.")
    sparse = imported("scipy.sparse", UnsupportedMediaTypeError)
    try:
        return _built(sparse, _format(arrays["format"]), arrays)
    # What scipy raises for arrays that make no matrix is not documented.
    except Exception as error:
        raise ClientError(400, f"The NPZ holds no valid sparse matrix: {reason_of(error)}.") from error


def _format(member: Array) -> str:
    value = member.item()
    name = value.decode("ascii") if isinstance(value, bytes) else value
    if name not in _INDEX_NAMES:
        raise ValueError(f"its format is {name!r}, expected one of {', '.join(_INDEX_NAMES)}")
    return str(name)


def _built(sparse: Any, name: str, arrays: Mapping[str, Array]) -> object:
    """The matrix. Its indices are checked, because those who compute with it do not look at them again."""
    shape, data = arrays["shape"], arrays["data"]
    indices = [arrays[each] for each in _INDEX_NAMES[name]]
    if shape.shape != (2,) or data.dtype.kind not in "biufc":
        raise ValueError("its shape must be of two dimensions, and its data numbers")
    if any(each.ndim != 1 or each.dtype.kind not in "iu" for each in (shape.reshape(-1), *indices)):
        raise ValueError("its shape and indices must be integers, in one dimension")
    # As in scipy's own reading, a member says whether it was an array or a matrix: the two multiply differently.
    kind = "array" if "_is_array" in arrays and hasattr(sparse, f"{name}_array") else "matrix"
    make = getattr(sparse, f"{name}_{kind}")
    dimensions = (int(shape[0]), int(shape[1]))
    if name == "coo":
        matrix = make((data, (indices[0], indices[1])), shape=dimensions)
        _check_within(matrix.row, dimensions[0])
        _check_within(matrix.col, dimensions[1])
    else:
        matrix = make((data, *indices), shape=dimensions)
        if name == "dia":
            if data.ndim != 2 or len(np.unique(indices[0])) != len(indices[0]):
                raise ValueError("it must have a row of data for each offset, and each offset once")
        else:
            matrix.check_format(full_check=True)
    return matrix


def _check_within(indices: Array, size: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"it has indices from {indices.min()} to {indices.max()} in a dimension of {size}")


# -- Encoding ----------------------------------------------------------------------------------------------------------


def encode_npz(value: object) -> bytes:
    """Encodes as application/x-npz, members stored and not compressed.

    Takes an array, or what numpy makes one of, as ``np.savez(file, value)`` does (member ``arr_0``); a dict of such
    by name; or a sparse matrix of scipy's in CSR, CSC, COO, DIA or BSR, as scipy.sparse.save_npz does.

    Raises:
        NotAcceptableError: An array is ragged, or holds objects that would have to be pickled; a name is not text or
            has a slash; there are more than 1,000 arrays; or the matrix is sparse in another format.
    """
    sparse = sys.modules.get("scipy.sparse")  # whoever made a sparse matrix has imported it
    if sparse is not None and sparse.issparse(value):
        return _encode_sparse(sparse, value)
    named = value if isinstance(value, Mapping) else {_ONLY_MEMBER: value}
    if len(named) > _MAX_MEMBERS or not all(isinstance(name, str) and not set(name) & set("/\\\0") for name in named):
        raise NotAcceptableError(
            f"{NPZ} holds at most {_MAX_MEMBERS} arrays, under names that are text without slashes."
        )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, member in named.items():
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX), write_npy(as_array(member, NPZ), NPZ))
    return stream.getvalue()


def _encode_sparse(sparse: Any, matrix: Any) -> bytes:
    if matrix.format not in _INDEX_NAMES:
        known = ", ".join(_INDEX_NAMES)
        raise NotAcceptableError(f"{NPZ} cannot hold a sparse matrix in {matrix.format}; expected one of {known}.")
    stream = io.BytesIO()
    sparse.save_npz(stream, matrix, compressed=False)
    return stream.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""Tables of Arrow's to arrays of numpy's and back, the same for each format that holds such tables."""

from __future__ import annotations

import datetime as dt
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sagemaker_inference_lite.codecs.arrays import Array, as_array
from sagemaker_inference_lite.codecs.arrow.stream_check import check_cells
from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.content_types import MAX_QUOTED
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError

# How many bytes Python's objects have (a number), and how many more these others, without what a text holds.
_BYTES_PER_OBJECT = 32
_BYTES_PER_TIME = 16
_BYTES_PER_TEXT = 32
_BYTES_PER_DECIMAL = 96
_BYTES_PER_CHARACTER = 4


def array_of(schema: Any, read: Callable[[], Any], length: int) -> Array:
    """Makes an array of a table, as `decode_parquet` says.

    Args:
        schema: The table's schema.
        read: Reads the table; called once the schema is found to be one that an array can be made of.
        length: How many bytes the body has.

    Raises:
        ClientError: 400 or 413. No array can be made of it, or it would be too large.
        ArrowInvalid: The table contradicts itself.
    """
    pa = importlib.import_module("pyarrow")
    types = pa.types
    for field in schema:
        if not _is_known(types, _stored_type(pa, field.type)):
            raise ClientError(400, f"The column {field.name[:MAX_QUOTED]!r} is of the type {field.type}, unknown here.")
    table = read()
    check_cells(table.num_rows, table.num_columns, length)
    is_numeric = all(_is_number(types, _values_type(types, _stored_type(pa, field.type))) for field in schema)
    array = np.empty(table.shape, np.float64 if is_numeric else object)
    reader = _Reader(types, ExpansionLimit(length), is_numeric)
    reader.room.take(array.nbytes, "The table")
    for place, column in enumerate(table.columns):
        start = 0
        for chunk in column.chunks:
            stored = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
            array[start : start + len(chunk), place] = reader.values(stored)
            start += len(chunk)
    return array


# -- Types -------------------------------------------------------------------------------------------------------------


def _stored_type(pa: Any, type_: Any) -> Any:
    """What an extension type such as a UUID is stored as, which older pyarrow shows in its place.

    Only where each value is as long as the next: Arrow reads no extension type as a dictionary, so that a long text
    would be repeated in each row.
    """
    is_extension = isinstance(type_, pa.BaseExtensionType)
    stored = type_.storage_type if is_extension else type_
    is_even = pa.types.is_primitive(stored) or pa.types.is_fixed_size_binary(stored)
    return stored if is_even else type_


def _values_type(types: Any, type_: Any) -> Any:
    return type_.value_type if types.is_dictionary(type_) else type_


def _is_known(types: Any, type_: Any) -> bool:
    kind = _values_type(types, type_)
    is_time = types.is_temporal(kind) and not types.is_interval(kind)
    return _is_number(types, kind) or _is_bytes(types, kind) or is_time


def _is_number(types: Any, kind: Any) -> bool:
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def _is_bytes(types: Any, kind: Any) -> bool:
    return (
        _is_text(types, kind)
        or any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary))
        or _is_view(types, kind)
    )


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_view(types: Any, kind: Any) -> bool:
    # Since pyarrow 16.
    checks = (getattr(types, name, None) for name in ("is_string_view", "is_binary_view"))
    return any(check is not None and check(kind) for check in checks)


# -- Decoding ----------------------------------------------------------------------------------------------------------


class _Reader:
    """Makes arrays of the chunks of a table's columns.

    Args:
        types: pyarrow.types.
        room: What the objects may come to.
        is_numeric: Whether to make float64, and not objects.
    """

    def __init__(self, types: Any, room: ExpansionLimit, is_numeric: bool) -> None:
        self._types = types
        self.room = room
        self._is_numeric = is_numeric
        # The batches of a stream share a dictionary. To check and convert it for each of them could take hours.
        self._dictionaries: dict[object, Array] = {}

    def values(self, chunk: Any) -> Array:
        """The values of a chunk, which is checked first: quickly, then for its size, then thoroughly.

        Raises:
            ClientError: 413. They have no room.
            ArrowInvalid: The chunk contradicts itself.
        """
        chunk.validate()
        if self._types.is_dictionary(chunk.type):
            return self._looked_up(chunk)
        if not self._is_numeric:
            self.room.take(_BYTES_PER_OBJECT * len(chunk), "The table's values")
            _take_content(self._types, chunk, self.room)
        chunk.validate(full=True)
        return _numbers(self._types, chunk) if self._is_numeric else _objects(self._types, chunk)

    def _looked_up(self, chunk: Any) -> Array:
        values = self._dictionary(chunk.dictionary)
        places = chunk.indices.cast("int64").fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        if len(places) and not 0 <= places.min() <= places.max() < len(values):
            raise ValueError("an index lies outside of its dictionary")
        found: Array = values[places]
        return found

    def _dictionary(self, dictionary: Any) -> Array:
        """The values of a dictionary, and behind them what stands for null."""
        parts = [None if buffer is None else (buffer.address, buffer.size) for buffer in dictionary.buffers()]
        key = (str(dictionary.type), len(dictionary), dictionary.offset, *parts)
        if key not in self._dictionaries:
            values = np.empty(len(dictionary) + 1, np.float64 if self._is_numeric else object)
            self.room.take(values.nbytes, "The table's dictionaries")
            values[:-1] = self.values(dictionary)
            values[-1] = np.nan if self._is_numeric else None
            self._dictionaries[key] = values
        return self._dictionaries[key]


def _numbers(types: Any, chunk: Any) -> Array:
    if any(check(chunk.type) for check in (types.is_boolean, types.is_decimal, types.is_null)):
        chunk = chunk.cast("float64")
    values: Array = chunk.to_numpy(zero_copy_only=False)
    return values


def _objects(types: Any, chunk: Any) -> Array:
    values = np.empty(len(chunk), object)
    if _is_bytes(types, chunk.type):
        values[:] = chunk.to_numpy(zero_copy_only=False)
    elif types.is_timestamp(chunk.type) or types.is_date(chunk.type):
        values[:] = _dates(types, chunk)
    elif types.is_primitive(chunk.type) and not types.is_temporal(chunk.type) and not chunk.null_count:
        values[:] = chunk.to_numpy(zero_copy_only=False).tolist()
    else:
        values[:] = _to_microseconds(types, chunk).to_pylist()
    return values


def _to_microseconds(types: Any, chunk: Any) -> Any:
    """The chunk without what Python's times cannot hold, for which pyarrow would need pandas."""
    for check, name in ((types.is_time64, "time64[us]"), (types.is_duration, "duration[us]")):
        if check(chunk.type) and chunk.type.unit == "ns":
            return chunk.cast(name, safe=False)
    return chunk


def _dates(types: Any, chunk: Any) -> list[Any]:
    """Dates and times as Python's. numpy makes them, because pyarrow would look for time zones in the system's files.

    Raises:
        ValueError: One is not within the years 1 to 9999; numpy would make a number of it.
    """
    instants = chunk.to_numpy(zero_copy_only=False)
    known = instants[~np.isnat(instants)]
    # Nanoseconds reach neither end, and neither end could be written in them.
    if known.size and np.datetime_data(instants.dtype)[0] != "ns":
        first, end = np.datetime64("0001-01-01"), np.datetime64("9999-12-31") + np.timedelta64(1, "D")
        if known.min() < first.astype(instants.dtype) or known.max() >= end.astype(instants.dtype):
            raise ValueError("a date is not within the years 1 to 9999")
    objects = instants.astype("datetime64[D]" if types.is_date(chunk.type) else "datetime64[us]").tolist()
    if types.is_timestamp(chunk.type) and chunk.type.tz is not None:
        return [each and each.replace(tzinfo=dt.timezone.utc) for each in objects]
    return list(objects)


def _take_content(types: Any, chunk: Any, room: ExpansionLimit) -> None:
    """Counts what Python's objects will hold of a chunk, beside what each object has."""
    if types.is_decimal(chunk.type):
        room.take(_BYTES_PER_DECIMAL * len(chunk), "The table's numbers")
    elif types.is_temporal(chunk.type):
        room.take(_BYTES_PER_TIME * len(chunk), "The table's times")
    elif _is_bytes(types, chunk.type) and len(chunk):
        room.take(_BYTES_PER_TEXT * len(chunk), "The table's text")
        _take_text(types, chunk, room)


def _take_text(types: Any, chunk: Any, room: ExpansionLimit) -> None:
    if _is_view(types, chunk.type):
        # Several may show the same bytes. Each of them takes sixteen, the first four of which are its length.
        views = np.frombuffer(chunk.buffers()[1], np.int32)[4 * chunk.offset : 4 * (chunk.offset + len(chunk)) : 4]
        room.take(_BYTES_PER_CHARACTER * max(0, int(views.sum(dtype=np.int64))), "The table's text")
        return
    room.take(chunk.nbytes, "The table's text")
    if not _is_text(types, chunk.type) or chunk.buffers()[2] is None:
        return
    # One character beyond ASCII and Latin may make each of its text take four bytes.
    offsets = np.frombuffer(chunk.buffers()[1], np.int64 if types.is_large_string(chunk.type) else np.int32)
    first, last = offsets[chunk.offset], offsets[chunk.offset + len(chunk)]
    if np.frombuffer(chunk.buffers()[2], np.uint8)[first:last].max(initial=0) > 127:
        room.take((_BYTES_PER_CHARACTER - 1) * chunk.nbytes, "The table's text")


# -- Encoding ----------------------------------------------------------------------------------------------------------


def table_of(value: object, content_type: str) -> Any:
    """Makes a table of what `encode_parquet` takes.

    Raises:
        NotAcceptableError: It takes no such thing.
    """
    pa = importlib.import_module("pyarrow")
    pandas = sys.modules.get("pandas")  # whoever made a DataFrame has imported it
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return pa.Table.from_pandas(value, nthreads=1)
    columns = value if isinstance(value, Mapping) else _columns(as_array(value, content_type), content_type)
    arrays = [_column(pa, column, content_type) for column in columns.values()]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise NotAcceptableError(f"{content_type} holds columns of one length; these have {sorted(lengths)[:10]}.")
    return pa.Table.from_arrays(arrays, names=[str(name) for name in columns])


def _columns(array: Array, content_type: str) -> dict[str, Array]:
    if array.ndim > 2:
        raise NotAcceptableError(f"{content_type} holds at most two dimensions, and the prediction has {array.ndim}.")
    rows = array.reshape(-1, 1) if array.ndim < 2 else array
    return {str(place): rows[:, place] for place in range(rows.shape[1])}


def _column(pa: Any, column: object, content_type: str) -> Any:
    if not isinstance(column, (list, tuple, pa.Array, pa.ChunkedArray)):
        column = as_array(column, content_type)
        if column.ndim != 1:
            raise NotAcceptableError(f"{content_type} holds columns of one dimension; this has {column.ndim}.")
        if not column.dtype.isnative:
            column = column.astype(column.dtype.newbyteorder("="))
    made = column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column)
    if pa.types.is_nested(made.type):
        raise NotAcceptableError(f"{content_type} holds columns of single values; this has {made.type}.")
    return made

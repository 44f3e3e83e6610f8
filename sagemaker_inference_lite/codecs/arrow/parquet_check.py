# SPDX-License-Identifier: Apache-2.0
"""What a Parquet file says of itself, read before Arrow reads it (parquet.thrift, and Thrift's compact protocol).

Arrow reads damaged files safely but takes them at their word: it makes room for a million columns before it looks
for the first, and for a page as large as the page's header says. Nothing is copied here, and Python checks each offset.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, NamedTuple

from sagemaker_inference_lite.codecs.arrow.stream_check import check_cells, check_schema_message, nested
from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.content_types import MAX_QUOTED
from sagemaker_inference_lite.errors import ClientError

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MAX_DEPTH = 16

# What Arrow, and what is read here, keep for each struct and each element of a list; rounded up.
_BYTES_PER_STRUCT = 512
_BYTES_PER_ELEMENT = 64

# parquet.thrift: the numbers of a struct's fields, and of an enumeration's values.
_FILE_SCHEMA, _FILE_ROWS, _FILE_GROUPS, _FILE_METADATA = 2, 3, 4, 5
_ELEMENT_TYPE, _ELEMENT_LENGTH, _ELEMENT_REPETITION, _ELEMENT_NAME, _ELEMENT_CHILDREN = 1, 2, 3, 4, 5
_ELEMENT_CONVERTED, _ELEMENT_LOGICAL = 6, 10
_REPEATED, _BYTE_ARRAY, _FIXED_LENGTH, _CONVERTED_DECIMAL, _LOGICAL_DECIMAL = 2, 6, 7, 5, 5
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_CHUNK_FILE, _CHUNK_METADATA = 1, 3
_COLUMN_TYPE, _COLUMN_VALUES, _COLUMN_COMPRESSED, _COLUMN_DATA, _COLUMN_DICTIONARY = 1, 5, 7, 9, 11
_PAGE_KIND, _PAGE_SIZE, _PAGE_COMPRESSED = 1, 2, 3
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PAGE_HEADERS = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}
_PAGE_VALUES = 1
_PAGE_ENCODINGS = {_DATA_PAGE: 2, _DATA_PAGE_V2: 4}

# Here the lengths of texts are compressed in turn, and a text may share all but its end with the one before it: a few
# bytes can stand for gigabytes, and how many cannot be told without decoding them.
_UNBOUNDED_ENCODINGS = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}

# Arrow looks this much further in files of an old writer that forgot to count (PARQUET-816).
_UNCOUNTED_BYTES = 100

# Of the footer's key-value pairs Arrow heeds this one: a schema of its own.
_ARROW_SCHEMA = b"ARROW:schema"


class Column(NamedTuple):
    """A column, as the schema has it.

    Attributes:
        name: Its name.
        type: The number of its physical type.
        width: How many bytes each value has where that is stated, else 0.
        is_text: Whether values are bytes of any length, which can be read as a dictionary.
    """

    name: str
    type: int
    width: int
    is_text: bool


def check_file(body: bytes) -> list[Column]:
    """Refuses a file that Arrow must not be given.

    Returns:
        Its columns.

    Raises:
        ClientError: 400. It is no such file, is encrypted, refers to others, contradicts itself, or has columns that
            are nested or of an encoding whose size cannot be told.
        ClientError: 413. What it says that it holds is more than a body may expand to.
    """
    room = ExpansionLimit(len(body))
    try:
        footer = _footer(body, room)
        columns = [_column(element) for element in footer[_FILE_SCHEMA][1:]]
        _check_rows(footer, columns, len(body))
        _check_pages(body, footer, columns, room)
        _check_metadata(footer, room)
    # What a struct lacks is a KeyError, what is of another type than it should be a TypeError.
    except (binascii.Error, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ClientError(400, "The body cannot be read as Parquet: its metadata is damaged.") from error
    return columns


# -- Thrift ------------------------------------------------------------------------------------------------------------

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)
_LONG_LIST = 15


class _Reader:
    """Reads structs of Thrift's compact protocol as dicts by field number.

    Each struct and each element of a list takes its share of the room, because Arrow makes an object of each.
    """

    def __init__(self, data: bytes, place: int, end: int, room: ExpansionLimit) -> None:
        self._data = data
        self.place = place
        self._end = min(end, len(data))
        self._room = room

    def struct(self, depth: int = 0) -> dict[int, Any]:
        self._room.take(_BYTES_PER_STRUCT, "The metadata of the Parquet file")
        if depth > _MAX_DEPTH:
            raise ValueError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            if not head:
                return fields
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = self._value(head & 15, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _BINARY:
            return self._take(self._unsigned())
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        return self._take({_BYTE: 1, _DOUBLE: 8, _UUID: 16}[kind])

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < _LONG_LIST else self._unsigned()
        if count > self._end - self.place or depth > _MAX_DEPTH:
            raise ValueError("a list is longer than the rest of the file")
        kind = head & 15
        if kind != _STRUCT:  # each of which takes its own
            self._room.take(_BYTES_PER_ELEMENT * count, "The metadata of the Parquet file")
        if kind in (_TRUE, _FALSE):
            return [byte == _TRUE for byte in self._take(count)]
        return [self._value(kind, depth) for _ in range(count)]

    def _byte(self) -> int:
        place = self.place
        if place >= self._end:
            raise ValueError("it ends too early")
        self.place = place + 1
        return self._data[place]

    def _take(self, count: int) -> bytes:
        place = self.place
        if not 0 <= place <= place + count <= self._end:
            raise ValueError("it ends too early")
        self.place = place + count
        return self._data[place : place + count]

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number is longer than 64 bits")


# -- Files -------------------------------------------------------------------------------------------------------------


def _footer(body: bytes, room: ExpansionLimit) -> dict[int, Any]:
    if len(body) < len(_MAGIC) + _TAIL_BYTES or not body.endswith(_MAGIC):
        raise ClientError(400, "The body is not Parquet, or is encrypted or cut short: it does not end with PAR1.")
    end = len(body) - _TAIL_BYTES
    start = end - int.from_bytes(body[end : end + 4], "little")
    if start < 0:
        raise ValueError("the footer is longer than the file")
    return _Reader(body, start, end, room).struct()


def _column(element: dict[int, Any]) -> Column:
    name = element[_ELEMENT_NAME].decode()
    if element.get(_ELEMENT_CHILDREN) or element.get(_ELEMENT_REPETITION) == _REPEATED:
        raise nested(name)
    kind = element[_ELEMENT_TYPE]
    width = element[_ELEMENT_LENGTH] if kind == _FIXED_LENGTH else 0
    if kind == _FIXED_LENGTH and width <= 0:
        raise ValueError("values of no length")
    is_decimal = element.get(_ELEMENT_CONVERTED) == _CONVERTED_DECIMAL or _LOGICAL_DECIMAL in element.get(
        _ELEMENT_LOGICAL, {}
    )
    return Column(name, kind, width, kind == _BYTE_ARRAY and not is_decimal)


def _check_rows(footer: dict[int, Any], columns: list[Column], length: int) -> None:
    rows = sum(group[_GROUP_ROWS] for group in footer[_FILE_GROUPS])
    if rows != footer[_FILE_ROWS] or any(group[_GROUP_ROWS] < 0 for group in footer[_FILE_GROUPS]):
        raise ValueError("the rows of the groups are not those of the file")
    check_cells(rows, sum(max(1, -(-column.width // 8)) for column in columns), length)


def _check_metadata(footer: dict[int, Any], room: ExpansionLimit) -> None:
    for pair in footer.get(_FILE_METADATA, ()):
        if pair[1] == _ARROW_SCHEMA and pair.get(2):
            check_schema_message(base64.b64decode(pair[2]), room)


def _check_pages(body: bytes, footer: dict[int, Any], columns: list[Column], room: ExpansionLimit) -> None:
    for group in footer[_FILE_GROUPS]:
        if len(group[_GROUP_COLUMNS]) != len(columns):
            raise ValueError("a group of rows has other columns than the schema")
        for chunk, column in zip(group[_GROUP_COLUMNS], columns):
            if chunk.get(_CHUNK_FILE):
                raise ClientError(400, "The Parquet file keeps its data in other files; expected one file.")
            metadata = chunk[_CHUNK_METADATA]
            if metadata[_COLUMN_VALUES] != group[_GROUP_ROWS] or metadata[_COLUMN_TYPE] != column.type:
                raise ValueError("a column has not as many values as there are rows, or another type")
            _check_chunk(body, metadata, column, room)


def _check_chunk(body: bytes, metadata: dict[int, Any], column: Column, room: ExpansionLimit) -> None:
    """Goes from page to page of a column, as Arrow does, and counts what each says that it unpacks to."""
    start = metadata[_COLUMN_DATA]
    dictionary = metadata.get(_COLUMN_DICTIONARY, 0)
    start = dictionary if 0 < dictionary < start else start
    end = start + metadata[_COLUMN_COMPRESSED] + _UNCOUNTED_BYTES
    if start < 0:
        raise ValueError("a column begins before the file")
    left = metadata[_COLUMN_VALUES]
    while left > 0:
        reader = _Reader(body, start, end, room)
        page = reader.struct()
        left -= _check_page(page, left, column, room)
        start = reader.place + page[_PAGE_COMPRESSED]


def _check_page(page: dict[int, Any], left: int, column: Column, room: ExpansionLimit) -> int:
    """Checks a page and returns how many of the column's values it holds."""
    size, kind = page[_PAGE_SIZE], page[_PAGE_KIND]
    if size < 0 or page[_PAGE_COMPRESSED] < 0:
        raise ValueError("a page of negative size")
    room.take(size, f"A page of the column {column.name[:MAX_QUOTED]!r}")
    if kind not in _PAGE_HEADERS:
        return 0  # Arrow passes over it
    header = page[_PAGE_HEADERS[kind]]
    values = int(header[_PAGE_VALUES])
    if kind == _DICTIONARY_PAGE:
        if not 0 <= values <= size:
            raise ValueError("a dictionary with more values than bytes")
        return 0
    encoding = header[_PAGE_ENCODINGS[kind]]
    if encoding in _UNBOUNDED_ENCODINGS:
        raise ClientError(
            400,
            f"The column {column.name[:MAX_QUOTED]!r} is encoded as {_UNBOUNDED_ENCODINGS[encoding]}, whose size "
            f"cannot be told beforehand; expected PLAIN or a dictionary.",
        )
    if not 0 <= values <= left:
        raise ValueError("a page with more values than its column")
    return values


def text_columns(columns: Iterable[Column]) -> list[str]:
    """The names of the columns that Arrow is to read as dictionaries: a long text may stand in each of many rows."""
    return [column.name for column in columns if column.is_text]

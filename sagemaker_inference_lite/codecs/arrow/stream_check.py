# SPDX-License-Identifier: Apache-2.0
"""What an Arrow stream says of itself, read before Arrow reads it (Arrow Columnar Format, "Serialization and IPC").

Arrow reads damaged streams safely but takes them at their word: it makes room for what a compressed buffer says that
it holds, and in a FlatBuffer many fields can be one and the same, so that a body of kilobytes becomes gigabytes of
names. Where memory ends meanwhile, it ends the process. Nothing is copied here, and Python checks each offset.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.content_types import MAX_QUOTED
from sagemaker_inference_lite.errors import ClientError

# What Arrow keeps for each field, batch, column of a batch, and pair of names, beside its text; rounded up.
_BYTES_PER_NODE = 1024

# Message.fbs and Schema.fbs: the numbers of a table's members, and of a union's kinds.
_MESSAGE_KIND, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH, _MESSAGE_METADATA = 1, 2, 3, 4
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3
_SCHEMA_FIELDS, _SCHEMA_METADATA = 1, 2
_FIELD_NAME, _FIELD_KIND, _FIELD_TYPE, _FIELD_CHILDREN, _FIELD_METADATA = 0, 2, 3, 5, 6
_TIMESTAMP, _TIMESTAMP_ZONE = 10, 1
_DICTIONARY_DATA, _DICTIONARY_IS_DELTA = 1, 2
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 1, 2, 3
# List, Struct, Union, FixedSizeList, Map, LargeList, RunEndEncoded, ListView, LargeListView
_NESTED_KINDS = frozenset((12, 13, 14, 16, 17, 21, 22, 25, 26))

_CONTINUATION = 0xFFFFFFFF
_FILE_MAGIC = b"ARROW1"
_BYTES_PER_BUFFER = 16
_BYTES_PER_FIELD_NODE = 16


def check_stream(body: bytes) -> None:
    """Refuses a stream that Arrow must not be given.

    Raises:
        ClientError: 400. It has columns that are nested, or parts that reach beyond its end.
        ClientError: 413. What it says that it holds is more than a body may expand to.
    """
    if body.startswith(_FILE_MAGIC):
        raise ClientError(400, "The body is an Arrow file, as Feather is; expected an Arrow stream.")
    room = ExpansionLimit(len(body))
    width = 0
    rows = 0
    try:
        for message in _messages(body):
            if message.kind == _SCHEMA:
                width = _check_schema(message.header, room)
            elif message.kind == _RECORD_BATCH:
                _check_batch(message.header, message.body, room)
                rows += message.header.number(_BATCH_LENGTH, "<q")
            elif message.kind == _DICTIONARY_BATCH:
                _check_dictionary(message, room)
            else:
                raise ClientError(400, f"The Arrow stream has a message of kind {message.kind}; expected tables only.")
            _check_metadata(message.table, _MESSAGE_METADATA, room)
    except (struct.error, UnicodeDecodeError) as error:
        raise ClientError(400, "The Arrow stream has parts that reach beyond its end.") from error
    check_cells(rows, width, len(body))


def check_schema_message(message: bytes, room: ExpansionLimit) -> None:
    """Refuses a schema, as it is written in front of a stream, that Arrow must not be given.

    Raises:
        ClientError: 400 or 413, as for `check_stream`.
    """
    try:
        for each in _messages(message):
            if each.kind == _SCHEMA:
                _check_schema(each.header, room)
    except (struct.error, UnicodeDecodeError) as error:
        raise ClientError(400, "The Arrow schema has parts that reach beyond its end.") from error


def check_cells(rows: int, width: int, length: int) -> None:
    """Refuses a table whose array would be larger than a body of that length may expand to.

    Raises:
        ClientError: 413, or 400 for a count below zero.
    """
    if rows < 0:
        raise ClientError(400, f"The table says that it has {rows} rows.")
    ExpansionLimit(length).take(8 * rows * max(width, 1), f"The table of {rows} rows and {width} columns")


# -- FlatBuffers -------------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """A table in a FlatBuffer (FlatBuffers Internals, "Tables").

    Attributes:
        data: The buffer.
        start: Where in it the table is.
    """

    data: memoryview
    start: int

    def place(self, member: int) -> int:
        """Where the member's value is; 0 where the table lacks it."""
        names = self.start - _number(self.data, self.start, "<i")
        offset = 4 + 2 * member
        if offset >= _number(self.data, names, "<H"):
            return 0
        found = _number(self.data, names + offset, "<H")
        return self.start + found if found else 0

    def number(self, member: int, form: str) -> int:
        place = self.place(member)
        return _number(self.data, place, form) if place else 0

    def table(self, member: int) -> _Table | None:
        place = self.place(member)
        return _Table(self.data, self._referred(place)) if place else None

    def vector(self, member: int) -> tuple[int, int]:
        """Where the elements of a vector (or the bytes of a text) begin, and how many there are."""
        place = self.place(member)
        if not place:
            return 0, 0
        start = self._referred(place)
        return start + 4, _number(self.data, start, "<I")

    def tables(self, member: int) -> Iterator[_Table]:
        start, count = self.vector(member)
        for place in range(start, start + 4 * count, 4):
            yield _Table(self.data, self._referred(place))

    def _referred(self, place: int) -> int:
        return place + _number(self.data, place, "<I")


def _number(data: memoryview, place: int, form: str) -> int:
    # A negative place would count from the end.
    if place < 0:
        raise struct.error("an offset points before the beginning")
    return int(struct.unpack_from(form, data, place)[0])


# -- Messages ----------------------------------------------------------------------------------------------------------


class _Message(NamedTuple):
    """A message of a stream: its metadata, what that is of, and the bytes that belong to it."""

    table: _Table
    kind: int
    header: _Table
    body: memoryview


def _messages(stream: bytes) -> Iterator[_Message]:
    """The messages up to the stream's end, which is a length of zero or no more bytes."""
    data = memoryview(stream)
    place = 0
    while place + 4 <= len(data):
        length = _number(data, place, "<I")
        place += 4
        if length == _CONTINUATION:  # streams before Arrow 0.15 lack it
            length = _number(data, place, "<I")
            place += 4
        if not length:
            return
        metadata = data[place : place + length]
        place += length
        message = _Table(metadata, _number(metadata, 0, "<I"))
        header = message.table(_MESSAGE_HEADER)
        body_length = message.number(_MESSAGE_BODY_LENGTH, "<q")
        if header is None or not 0 <= body_length <= len(data) - place:
            raise struct.error("a message has no header, or a body that is not there")
        yield _Message(message, message.number(_MESSAGE_KIND, "<B"), header, data[place : place + body_length])
        place += body_length


def _check_schema(schema: _Table, room: ExpansionLimit) -> int:
    """Checks the schema's fields and returns how many there are."""
    width = schema.vector(_SCHEMA_FIELDS)[1]
    room.take(_BYTES_PER_NODE * width, "The schema of the table")
    for field in schema.tables(_SCHEMA_FIELDS):
        _check_field(field, room)
    _check_metadata(schema, _SCHEMA_METADATA, room)
    return width


def _check_field(field: _Table, room: ExpansionLimit) -> None:
    kind = field.number(_FIELD_KIND, "<B")
    if kind in _NESTED_KINDS or field.vector(_FIELD_CHILDREN)[1]:
        start, length = field.vector(_FIELD_NAME)
        raise nested(bytes(field.data[start : start + length]).decode())
    room.take(field.vector(_FIELD_NAME)[1], "The schema of the table")
    type_ = field.table(_FIELD_TYPE)
    if kind == _TIMESTAMP and type_ is not None:
        room.take(type_.vector(_TIMESTAMP_ZONE)[1], "The schema of the table")
    _check_metadata(field, _FIELD_METADATA, room)


def nested(name: str) -> ClientError:
    """The error for a column that holds more than one value in a row."""
    return ClientError(
        400, f"The column {name[:MAX_QUOTED]!r} is nested; expected columns of numbers, text or other single values."
    )


def _check_metadata(table: _Table, member: int, room: ExpansionLimit) -> None:
    room.take(_BYTES_PER_NODE * table.vector(member)[1], "The metadata of the table")
    for pair in table.tables(member):
        room.take(pair.vector(0)[1] + pair.vector(1)[1], "The metadata of the table")


def _check_dictionary(message: _Message, room: ExpansionLimit) -> None:
    # Arrow puts the parts of such a dictionary together anew for each batch that follows.
    if message.header.number(_DICTIONARY_IS_DELTA, "<B"):
        raise ClientError(400, "The Arrow stream has dictionaries in parts (deltas); expected whole ones.")
    batch = message.header.table(_DICTIONARY_DATA)
    if batch is not None:
        _check_batch(batch, message.body, room)


def _check_batch(batch: _Table, body: memoryview, room: ExpansionLimit) -> None:
    """Counts the columns of a batch, and what its compressed buffers say that they hold."""
    nodes, count = batch.vector(_BATCH_NODES)
    if nodes + count * _BYTES_PER_FIELD_NODE > len(batch.data):
        raise struct.error("there are fewer columns than stated")
    room.take(_BYTES_PER_NODE * (1 + count), "The columns of the Arrow stream's batches")
    if not batch.place(_BATCH_COMPRESSION):
        return
    start, count = batch.vector(_BATCH_BUFFERS)
    for place in range(start, start + count * _BYTES_PER_BUFFER, _BYTES_PER_BUFFER):
        offset, length = _number(batch.data, place, "<q"), _number(batch.data, place + 8, "<q")
        if length > 0:
            # -1 says that this buffer is not compressed after all.
            room.take(max(0, _number(body, offset, "<q")), "A compressed buffer of the Arrow stream")

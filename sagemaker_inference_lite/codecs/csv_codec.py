# SPDX-License-Identifier: Apache-2.0
"""text/csv (RFC 4180)."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator
from numbers import Number

import numpy as np
import orjson

from sagemaker_inference_lite.codecs.arrays import Array, as_array, dump_numbers, is_plain
from sagemaker_inference_lite.codecs.charsets import known_charset, text_of, without_bom
from sagemaker_inference_lite.content_types import CSV, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError

# Arrays of text give every field the room of the longest. One long field among many short ones would make of a body
# that fits into a request an array that does not fit into memory.
MAX_TEXT_ARRAY_BYTES = 256 * 1024 * 1024

# What an array of objects may hold to be written as CSV; anything else would be written as the text of its repr().
_FIELDS = (str, Number, np.generic, dt.date, dt.time, dt.timedelta)


def decode_csv(body: bytes, media_type: MediaType) -> Array:
    """Decodes text/csv into an array of two dimensions, one row a record.

    It is float64 where every field is a number as float() reads it (in ASCII, without underscores) or empty, which
    is NaN; otherwise it holds text, dtype str, and empty fields are "". Quotes say nothing of a field's type.
    Lines end with CRLF or LF. Empty lines at the end are no records; elsewhere one is a record of one empty field.

    Args:
        body: The table.
        media_type: Of its parameters, ``header=present`` says that the first record holds names, which are dropped
            (RFC 4180, section 3), and ``charset`` is UTF-8 unless it is given (RFC 7111, section 5.1). A byte order
            mark of UTF-8 is passed over.

    Raises:
        UnsupportedMediaTypeError: The charset is none that is known (RFC 9110, section 15.5.16, counts it as part
            of the type).
        ClientError: 400. The body is empty, is not text in its charset, has records of different lengths, a quote
            that does not close, a field of more than 131,072 characters, or makes an array of text of more than
            256 MiB. The message names the record, from 1 on.
    """
    charset = known_charset(media_type.charset)
    has_header = media_type.parameters.get("header", "").lower() == "present"
    if charset == "utf-8":
        body = without_bom(body)
        numbers = _plain_numbers(body, has_header)
        if numbers is not None:
            return numbers
    fields, width = _csv_fields(_csv_text(body, charset))
    if has_header:
        del fields[:width]
    return _table(fields).reshape(-1, width)


def _plain_numbers(body: bytes, has_header: bool) -> Array | None:
    """A table of nothing but JSON's numbers, read as JSON in a fraction of the time; None for any other table."""
    lines = body.replace(b"\r\n", b"\n").rstrip(b"\n")
    header, _, rows = lines.partition(b"\n") if has_header else (b"", b"", lines)
    # All that is in JSON beside numbers and commas needs one of these bytes. A quoted header may hold line ends.
    if not rows.strip() or any(mark in rows for mark in b'"tfn{[]\r') or b'"' in header or b"\r" in header:
        return None
    width = _width(rows)
    if not width or (has_header and header.count(b",") + 1 != width):
        return None
    numbers = _list_of_numbers(rows.replace(b"\n", b","))
    return None if numbers is None else numbers.reshape(-1, width)


def _width(rows: bytes) -> int:
    """How many fields each row has, where none of them is quoted; 0 if the rows differ in that."""
    marks = np.frombuffer(rows, np.uint8)
    ends_row = np.append(marks[(marks == ord(",")) | (marks == ord("\n"))] == ord("\n"), True)
    width = int(ends_row.argmax()) + 1
    is_even = ends_row.size == width * np.count_nonzero(ends_row) and ends_row[width - 1 :: width].all()
    return width if is_even else 0


def _list_of_numbers(fields: bytes) -> Array | None:
    try:
        return np.array(orjson.loads(b"[" + fields + b"]"), dtype=np.float64)
    except ValueError:
        pass
    # Of JSON's null numpy makes NaN. Twice, since of three commas in a row the first replacement takes two.
    filled = (b"," + fields + b",").replace(b",,", b",null,").replace(b",,", b",null,")
    try:
        return np.array(orjson.loads(b"[" + filled[1:-1] + b"]"), dtype=np.float64)
    except ValueError:
        return None


def _csv_text(body: bytes, charset: str) -> str:
    text = text_of(body, charset).rstrip("\r\n")
    # Python's csv refuses NUL before 3.11, and numpy drops it at the end of a text.
    if not text or "\0" in text:
        found = "holds the character NUL" if text else "is empty"
        raise ClientError(400, f"The body {found}; expected CSV with at least one record.")
    return text


def _csv_fields(text: str) -> tuple[list[str], int]:
    """All fields, one after the other, and how many of them make a record."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    fields: list[str] = []
    width = 0
    try:
        for number, record in enumerate(reader, 1):
            found = len(record) or 1  # an empty line
            width = width or found
            if found != width:
                where = f"Row {number} of the CSV (line {reader.line_num})"
                raise ClientError(400, f"{where} has {found} fields; expected {width}, as row 1 has.")
            fields += record or [""]
    except csv.Error as error:
        raise ClientError(400, f"The body is not CSV: {error}, at line {reader.line_num}.") from error
    return fields, width


def _table(fields: list[str]) -> Array:
    try:
        numbers = np.array([float(field or "nan") for field in fields], dtype=np.float64)
    except ValueError:
        return _text_table(fields)
    # float() also takes 1_000 and the digits of other scripts, which other readers of CSV take for text.
    text = "".join(fields)
    return numbers if text.isascii() and "_" not in text else _text_table(fields)


def _text_table(fields: list[str]) -> Array:
    longest = max(map(len, fields))
    if 4 * longest * len(fields) > MAX_TEXT_ARRAY_BYTES:
        raise ClientError(
            400,
            f"The CSV has {len(fields)} fields and one of {longest} characters; as an array of text it exceeds "
            f"{MAX_TEXT_ARRAY_BYTES} bytes. Expected fewer rows, or JSON.",
        )
    return np.array(fields, dtype=np.str_)


def encode_csv(value: object) -> bytes:
    """Encodes as text/csv (RFC 4180), in UTF-8, with LF at the end of each line.

    Takes an array, or what numpy makes one of, of two dimensions (a line a row), one (a line a value), or none.
    Numbers are written so that they read back equal, those that are not finite as nan, inf and -inf, None as an
    empty field, dates and times of numpy as ISO 8601. Fields are quoted where they must be.

    Raises:
        NotAcceptableError: value has more dimensions, is ragged, or holds lists, dicts or the like.
    """
    table = _two_dimensional(value)
    if table.size and is_plain(table) and table.dtype.kind != "b" and not np.isinf(table).any():
        # JSON's numbers are CSV's, so the faster of the two writers serves both.
        return dump_numbers(table)[2:-2].replace(b"],[", b"\n").replace(b"null", b"nan") + b"\n"
    if table.dtype.kind not in "biufOU":
        table = table.astype(np.str_)
    return "".join(_csv_lines(table)).encode()


def _two_dimensional(value: object) -> Array:
    array = as_array(value, CSV)
    if array.ndim > 2:
        raise NotAcceptableError(f"{CSV} holds at most two dimensions, and the prediction has {array.ndim}.")
    if array.dtype.kind == "O":
        for element in array.flat:
            if element is not None and not isinstance(element, _FIELDS):
                raise NotAcceptableError(f"{CSV} cannot hold the prediction: {type(element).__name__} is no field.")
    return array.reshape(-1, 1) if array.ndim < 2 else array


def _csv_lines(table: Array) -> Iterator[str]:
    lines = _Lines()
    # Before Python 3.13 the writer quotes a lone CR only where lines end with it.
    csv.writer(lines, lineterminator="\r\n").writerows(table.tolist())
    return (line[:-2] + "\n" for line in lines)


class _Lines(list[str]):
    """A file that keeps what is written to it, one element a line."""

    def write(self, line: str) -> None:
        self.append(line)

# SPDX-License-Identifier: Apache-2.0
"""text/csv (RFC 4180)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterator
from numbers import Number

import numpy as np
import orjson

from sagemaker_inference_lite.codecs.arrays import (
    MAX_TEXT_ARRAY_BYTES,
    Array,
    array_of_text,
    as_array,
    dump_numbers,
    is_plain,
)
from sagemaker_inference_lite.codecs.charsets import known_charset, text_of, without_bom
from sagemaker_inference_lite.codecs.json_lists import holds_only_numbers, read_numbers
from sagemaker_inference_lite.content_types import CSV, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError

# What an array of objects may hold to be written as CSV; anything else would be written as the text of its repr().
_FIELDS = (str, Number, np.generic, dt.date, dt.time, dt.timedelta)

_NEGATIVE_ZERO = re.compile(rb"-0[ \t]*[,\]]")


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
    # The search for a single byte is so much faster than the replacement that it is worth asking first.
    lines = (body.replace(b"\r\n", b"\n") if b"\r" in body else body).rstrip(b"\n")
    header, _, rows = lines.partition(b"\n") if has_header else (b"", b"", lines)
    # A quoted header may hold line ends.
    if not rows.strip() or b'"' in header or b"\r" in header:
        return None
    if not holds_only_numbers(rows) or any(mark in rows for mark in b"[]\r"):
        return None
    width = _width(rows)
    if not width or (has_header and header.count(b",") + 1 != width):
        return None
    numbers = _list_of_numbers(b"[" + rows.replace(b"\n", b",") + b"]")
    return None if numbers is None else numbers.reshape(-1, width)


def _width(rows: bytes) -> int:
    """How many fields each row has, where none of them is quoted; 0 if the rows differ in that."""
    marks = np.frombuffer(rows, np.uint8)
    begins = np.append(0, np.flatnonzero(marks == ord("\n")))
    commas = np.add.reduceat((marks == ord(",")).view(np.int8), begins, dtype=np.int32)
    return int(commas[0]) + 1 if (commas == commas[0]).all() else 0


def _list_of_numbers(text: bytes) -> Array | None:
    """The array that is a list of numbers in JSON, with NaN for what is missing between two commas."""
    numbers = read_numbers(text, np.float64)
    if numbers is None:
        numbers = _parsed(text)
    if numbers is None:
        # Of JSON's null numpy makes NaN. Twice, since of three commas in a row the first replacement takes two.
        filled = (b"," + text[1:-1] + b",").replace(b",,", b",null,").replace(b",,", b",null,")
        numbers = _parsed(b"[" + filled[1:-1] + b"]")
    # An integer of JSON's has no negative zero, which float() reads.
    return None if numbers is None or (not numbers.all() and _NEGATIVE_ZERO.search(text)) else numbers


def _parsed(text: bytes) -> Array | None:
    try:
        return np.array(orjson.loads(text), dtype=np.float64)
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
        # Not from a list, in which each number would take three times the room.
        numbers = np.fromiter((float(field or "nan") for field in fields), np.float64, len(fields))
    except ValueError:
        return _text_table(fields)
    # float() also takes 1_000 and the digits of other scripts, which other readers of CSV take for text.
    text = "".join(fields)
    return numbers if text.isascii() and "_" not in text else _text_table(fields)


def _text_table(fields: list[str]) -> Array:
    table = array_of_text(fields)
    if table is None:
        raise ClientError(
            400,
            f"The CSV has {len(fields)} fields and one of {max(map(len, fields))} characters; as an array of text it "
            f"exceeds {MAX_TEXT_ARRAY_BYTES} bytes. Expected fewer rows, or JSON.",
        )
    return table


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
        lines = dump_numbers(table)[2:-2].replace(b"],[", b"\n") + b"\n"
        return lines.replace(b"null", b"nan") if np.isnan(table).any() else lines
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
                raise NotAcceptableError(f"{CSV} cannot hold the prediction: {type(element).__name__} is not a field.")
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

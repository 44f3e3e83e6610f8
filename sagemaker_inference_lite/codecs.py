# SPDX-License-Identifier: Apache-2.0
"""Bytes to objects and back, by media type: one table, to which `register_codec` adds.

| type              | decodes to                                                 | encodes                             |
|-------------------|------------------------------------------------------------|-------------------------------------|
| application/json  | int64 or float64 array where all is numbers; else as it is | arrays, numbers, lists, dicts, text |
| text/csv          | float64 array of two dimensions, or such an array of text  | arrays of up to two dimensions      |
| application/x-npy | the array                                                  | arrays                              |

Bodies are a client's: nothing in them is unpickled, and what cannot be read is answered with 400, saying what is
wrong and where. Each decoder takes time and memory in proportion to the body, whatever the body claims.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
from collections.abc import Callable, Iterator
from itertools import takewhile
from numbers import Number
from typing import Any, NamedTuple, Union, cast

import numpy as np
import numpy.typing as npt
import orjson

from sagemaker_inference_lite.content_types import (
    ANY,
    CSV,
    JSON,
    MAX_QUOTED,
    NPY,
    MediaType,
    choose,
    parse_media_type,
)
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError

Array = npt.NDArray[Any]
Body = Union[bytes, bytearray, memoryview]
Decoder = Callable[[bytes, MediaType], object]
Encoder = Callable[[object], bytes]

# Arrays of text give every field the room of the longest. One long field among many short ones would make of a body
# that fits into a request an array that does not fit into memory.
MAX_TEXT_ARRAY_BYTES = 256 * 1024 * 1024

# What an array of objects may hold to be written as CSV; anything else would be written as the text of its repr().
_FIELDS = (str, Number, np.generic, dt.date, dt.time, dt.timedelta)

_BOM = b"\xef\xbb\xbf"

# The names of the IANA's registry that CSV comes in, all of which Python knows. Others are not looked up: Python has
# codecs that take quadratic time ("idna"), and remembers every name that it was ever asked for.
_CHARSETS = frozenset(
    "utf-8 us-ascii iso-8859-1 iso-8859-2 iso-8859-15 windows-1250 windows-1251 windows-1252 utf-16 utf-16le "
    "utf-16be koi8-r shift_jis euc-jp iso-2022-jp euc-kr gb2312 gbk gb18030 big5".split()
)
_CHARSETS_BY_OTHER_NAMES = {"utf8": "utf-8", "ascii": "us-ascii", "latin-1": "iso-8859-1", "latin1": "iso-8859-1"}

# numpy reads the header with ast.literal_eval(), and has this limit itself from 1.24 on.
_MAX_NPY_HEADER_BYTES = 10_000


class _Codec(NamedTuple):
    """What is registered for a media type; None for a direction that it does not serve."""

    decode: Decoder | None
    encode: Encoder | None


_codecs: dict[str, _Codec] = {}
_decodable: tuple[str, ...] = ()
_encodable: tuple[str, ...] = ()


# -- The table ---------------------------------------------------------------------------------------------------------


def register_codec(content_type: str, *, decode: Decoder | None = None, encode: Encoder | None = None) -> None:
    """Adds a codec for a media type, or replaces the one that is there. Call it before requests are served.

    Args:
        content_type: The type without parameters, such as "application/x-protobuf".
        decode: Called with a body (bytes) and the request's `MediaType`, whose parameters it may heed. It raises a
            ClientError where the body is not what it says; any other exception is a fault of the server's.
        encode: Called with an object, returns the body. It raises NotAcceptableError where the type cannot hold
            that object; any other exception is a fault of the server's.

    Raises:
        ValueError: content_type is not such a type, or neither function is given.
    """
    global _decodable, _encodable
    media_type = parse_media_type(content_type)
    if media_type.parameters or "*" in media_type.essence:
        raise ValueError(f"a codec is registered for type/subtype alone, not for {content_type!r}")
    if decode is None and encode is None:
        raise ValueError(f"a codec for {content_type!r} needs a function to decode or one to encode")
    _codecs[media_type.essence] = _Codec(decode, encode)
    _decodable = tuple(name for name, codec in _codecs.items() if codec.decode)
    _encodable = tuple(name for name, codec in _codecs.items() if codec.encode)


def decodable() -> tuple[str, ...]:
    """The media types that requests may have, in the order in which they were registered."""
    return _decodable


def encodable() -> tuple[str, ...]:
    """The media types that responses may have, the preferred one first."""
    return _encodable


def decode(body: Body, content_type: str) -> object:
    """Decodes a request's body.

    Args:
        body: The body.
        content_type: Its media type with parameters, as the Content-Type header has it.

    Returns:
        What the type's codec makes of it; see `decode_json`, `decode_csv` and `decode_npy`.

    Raises:
        UnsupportedMediaTypeError: No codec decodes that type or its charset; the message lists what is known.
        ClientError: 400. The body is not what content_type says, or content_type is not a media type.
    """
    try:
        media_type = parse_media_type(content_type)
    except ValueError as error:
        raise ClientError(400, f"The Content-Type cannot be read: {error}.") from None
    codec = _codecs.get(media_type.essence)
    if codec is None or codec.decode is None:
        raise UnsupportedMediaTypeError(
            f"The content type {content_type[:MAX_QUOTED]!r} is not supported; expected {' or '.join(_decodable)}."
        )
    return codec.decode(body if isinstance(body, bytes) else bytes(body), media_type)


def encode(value: object, accept: str | None) -> tuple[bytes, str]:
    """Encodes a response in a type that the client accepts.

    Args:
        value: What to encode; see `encode_json`, `encode_csv` and `encode_npy`.
        accept: The Accept header, or simply a media type. None, or "", accepts everything.

    Returns:
        The body, and the content type to send with it.

    Raises:
        NotAcceptableError: No acceptable type has a codec, or the one that was chosen cannot hold value.
        TypeError: value holds an object that JSON has no form for.
    """
    content_type = choose(accept or ANY, _encodable)
    encoder = cast(Encoder, _codecs[content_type].encode)
    return encoder(value), content_type


# -- JSON (RFC 8259) ---------------------------------------------------------------------------------------------------


def decode_json(body: bytes, media_type: MediaType) -> object:
    """Decodes application/json.

    A list, nested or not, that holds nothing but numbers and is not ragged becomes an array: int64 where all its
    numbers are integers that int64 holds, float64 otherwise; [] is an array of shape (0,). Everything else
    stays as it is: lists that are ragged, deeper than numpy's dimensions, or that hold true, null, text or objects
    are lists, objects are dicts with lists inside, and single numbers are int or float. NaN and Infinity are not
    JSON (RFC 8259, section 6). A charset has no meaning here (section 11), and a byte order mark is passed over.

    Raises:
        ClientError: 400. The body is not one JSON text in UTF-8, or is nested more than 1,024 deep.
    """
    text = body[len(_BOM) :] if body.startswith(_BOM) else body
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ClientError(400, f"The body is not JSON: {error.msg} at {where}; expected one JSON value.") from error
    return _array_of_numbers(text, value) if isinstance(value, list) else value


def _array_of_numbers(text: bytes, value: list[Any]) -> object:
    # Anything but lists and numbers needs one of these bytes: that tells them apart without a look at each element,
    # and before numpy would make text of numbers, or give each short text the room of the longest.
    if any(mark in text for mark in b'"tfn{'):
        return value
    is_integral = not any(mark in text for mark in b".eE")
    try:
        return np.array(value, dtype=np.int64 if is_integral else np.float64)
    except OverflowError:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return value  # ragged, or too deep


def encode_json(value: object) -> bytes:
    """Encodes as application/json (RFC 8259), in UTF-8.

    Takes what Python's json takes, and arrays and scalars of numpy, and whatever else has ``tolist()`` or
    ``__array__()``, wherever they stand. NaN and the infinities become null, for which JSON has no other word. Keys
    that are numbers become text. Dates and times, those of numpy included, become text by RFC 3339; NaT is null.

    Raises:
        TypeError: value holds an object without a form in JSON (bytes, sets and complex numbers among them), an
            integer of more than 64 bits, or is nested more than about 250 deep.
    """
    if type(value) is np.ndarray and _is_plain(value):
        return _dump_numbers(value)
    try:
        return orjson.dumps(value, default=_json_default)
    except orjson.JSONEncodeError:
        # Keys that are not text are rare, and looking out for them slows all others down.
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS)


def _json_default(value: Any) -> object:
    """What orjson is to write for an object that it does not know.

    Arrays of dates and times are why it is not left to write those of numpy by itself: it makes a date of NaT.
    """
    if isinstance(value, (np.ndarray, np.datetime64)):
        return _json_array(np.asanyarray(value))
    if isinstance(value, np.longdouble):
        return float(value)  # its tolist() is a longdouble again
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__array__"):
        return _json_array(np.asarray(value))
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _json_array(array: Array) -> object:
    if array.dtype.kind == "M":
        # Python's own datetimes, to the microsecond, and None for NaT.
        return array.astype("datetime64[us]").tolist()
    # A subclass may mean more than its numbers: a masked array hides some of them.
    if type(array) is np.ndarray and _is_plain(array):
        return orjson.Fragment(_dump_numbers(array))
    return array.tolist()


def _is_plain(array: Array) -> bool:
    """Whether orjson writes the array by itself: numbers of a kind that it knows, in at least one dimension."""
    return array.ndim > 0 and array.dtype.char in "?bBhHiIlLqQfd" and array.dtype.isnative


def _dump_numbers(array: Array) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


# -- CSV (RFC 4180) ----------------------------------------------------------------------------------------------------


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
    charset = _known_charset(media_type.charset)
    has_header = media_type.parameters.get("header", "").lower() == "present"
    if charset == "utf-8":
        body = body[len(_BOM) :] if body.startswith(_BOM) else body
        numbers = _plain_numbers(body, has_header)
        if numbers is not None:
            return numbers
    fields, width = _csv_fields(_csv_text(body, charset))
    if has_header:
        del fields[:width]
    return _table(fields).reshape(-1, width)


def _known_charset(name: str | None) -> str:
    asked = name or "utf-8"
    charset = _CHARSETS_BY_OTHER_NAMES.get(asked, asked)
    if charset not in _CHARSETS:
        raise UnsupportedMediaTypeError(
            f"The charset {charset[:MAX_QUOTED]!r} is not supported; expected one of {', '.join(sorted(_CHARSETS))}."
        )
    return charset


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
    try:
        text = body.decode(charset)
    except UnicodeDecodeError as error:
        raise ClientError(400, f"The body is not text in {charset}: {error.reason} at byte {error.start}.") from error
    text = text.rstrip("\r\n")
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
    if table.size and _is_plain(table) and table.dtype.kind != "b" and not np.isinf(table).any():
        # JSON's numbers are CSV's, so the faster of the two writers serves both.
        return _dump_numbers(table)[2:-2].replace(b"],[", b"\n").replace(b"null", b"nan") + b"\n"
    if table.dtype.kind not in "biufOU":
        table = table.astype(np.str_)
    return "".join(_csv_lines(table)).encode()


def _two_dimensional(value: object) -> Array:
    array = _as_array(value, CSV)
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


def _as_array(value: object, content_type: str) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        value = np.array(value.tolist(), dtype=object)  # None for what is masked, which asarray() would show
    try:
        return np.asarray(value)
    except ValueError as error:
        raise NotAcceptableError(f"{content_type} cannot hold the prediction: it is ragged.") from error


# -- NPY (numpy.lib.format) --------------------------------------------------------------------------------------------


def decode_npy(body: bytes, media_type: MediaType) -> Array:
    """Decodes application/x-npy: one array in numpy's own format, version 1.0 or 2.0, and nothing behind it.

    Returns:
        An array of its own memory, writable, with the dtype, shape and order that the body states.

    Raises:
        ClientError: 400. The body is not in that format, holds objects (which would have to be unpickled), or is
            not exactly as long as its header says. Nothing is allocated before that is known.
    """
    stream = io.BytesIO(body)
    shape, is_fortran, dtype = _npy_header(stream, body)
    if dtype.hasobject:
        raise ClientError(400, "The NPY body holds Python objects, which are not unpickled; expected numbers or text.")
    start = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    # Without a byte for each row, a few bytes could promise rows without end.
    if size != len(body) - start or not dtype.itemsize or math.prod(takewhile(bool, shape)) > len(body):
        promised = f"shape {shape} and type {dtype}"[:MAX_QUOTED]
        raise ClientError(
            400, f"The NPY body has {len(body) - start} bytes behind its header; expected an array of {promised}."
        )
    try:
        view: Array = np.ndarray(shape, dtype, body, start, order="F" if is_fortran else "C")
    except (OverflowError, TypeError, ValueError) as error:
        raise ClientError(400, f"The NPY body cannot be read: {error}.") from error
    array: Array = view.copy(order="K")
    return array


def _npy_header(stream: io.BytesIO, body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and dtype; leaves the stream behind the header."""
    try:
        version = np.lib.format.read_magic(stream)
        length = int.from_bytes(body[8:10] if version == (1, 0) else body[8:12], "little")
        if length > _MAX_NPY_HEADER_BYTES:
            raise ValueError(f"its header has {length} bytes; expected at most {_MAX_NPY_HEADER_BYTES}")
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
        raise ValueError("its version is {}.{}; expected 1.0 or 2.0".format(*version))
    # numpy evaluates the header as a literal of Python's, and lets out whatever that raises: ValueError, TypeError,
    # SyntaxError, TokenError, RecursionError, even MemoryError for one that is nested too deeply.
    except Exception as error:
        reason = str(error)[:MAX_QUOTED] or type(error).__name__
        raise ClientError(400, f"The body is not NPY: {reason}.") from error


def encode_npy(value: object) -> bytes:
    """Encodes as application/x-npy: the array, or the one that numpy makes of value.

    Raises:
        NotAcceptableError: value is ragged, or holds objects that would have to be pickled.
    """
    array = _as_array(value, NPY)
    if array.dtype.hasobject:
        raise NotAcceptableError(f"{NPY} cannot hold the prediction: it is no array of numbers or text.")
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


register_codec(JSON, decode=decode_json, encode=encode_json)
register_codec(CSV, decode=decode_csv, encode=encode_csv)
register_codec(NPY, decode=decode_npy, encode=encode_npy)

# SPDX-License-Identifier: Apache-2.0
"""Parquet and Arrow streams, by pyarrow, which is imported when the first of them comes.

No work is done in threads of pyarrow's: workers are forked, and their number is the operator's choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sagemaker_inference_lite.codecs.arrays import Array
from sagemaker_inference_lite.codecs.arrow.parquet_check import check_file, text_columns
from sagemaker_inference_lite.codecs.arrow.stream_check import check_stream
from sagemaker_inference_lite.codecs.arrow.values import array_of, table_of
from sagemaker_inference_lite.codecs.libraries import imported, reason_of
from sagemaker_inference_lite.content_types import ARROW_STREAM, PARQUET, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError

# Before this one pyarrow unpickles what a body calls an extension type (CVE-2023-47248).
_FIRST_SAFE_VERSION = (14, 0, 1)


def decode_parquet(body: bytes, media_type: MediaType) -> Array:
    """Decodes application/vnd.apache.parquet into an array of two dimensions, one row a record, as CSV is.

    It is float64 where every column holds numbers or booleans, and NaN stands for null. Otherwise it holds Python's
    objects: str, bytes, int, float, bool, Decimal, datetime, date, time, timedelta (to the microsecond; in UTC where
    the column has a time zone), and None for null. Names of columns are dropped: who needs them overrides
    `preprocess`, or writes an input_fn, and reads the body as it came. An index that pandas stored is a column.

    Raises:
        UnsupportedMediaTypeError: pyarrow cannot be imported, or is older than 14.0.1.
        ClientError: 400. The body is no such file, or is damaged or encrypted; a column is nested, is of a type that
            is not listed above, holds a time that datetime cannot, or is text in a DELTA encoding.
        ClientError: 413. It unpacks to more than a body may expand to, or the array, objects counted, would be more.
    """
    columns = check_file(body)

    def read(pa: Any) -> Any:
        parquet = imported("pyarrow.parquet", UnsupportedMediaTypeError)
        # A long text that stands in many rows is a few bytes there, and stays so as a dictionary.
        file = parquet.ParquetFile(
            pa.BufferReader(body),
            read_dictionary=text_columns(columns),
            coerce_int96_timestamp_unit="us",
            pre_buffer=False,
        )
        return file.schema_arrow, lambda: file.read(use_threads=False)

    return _decode(body, "Parquet", read)


def decode_arrow_stream(body: bytes, media_type: MediaType) -> Array:
    """Decodes application/vnd.apache.arrow.stream into an array of two dimensions, as `decode_parquet` does.

    Raises:
        ClientError: 400, 413 and 415, as for `decode_parquet`; dictionaries that come in parts (deltas) are 400.
    """
    check_stream(body)

    def read(pa: Any) -> Any:
        reader = pa.ipc.open_stream(pa.BufferReader(body), options=pa.ipc.IpcReadOptions(use_threads=False))
        return reader.schema, reader.read_all

    return _decode(body, "an Arrow stream", read)


def _decode(body: bytes, name: str, read: Callable[[Any], tuple[Any, Callable[[], Any]]]) -> Array:
    pa = _safe_pyarrow()
    try:
        schema, table = read(pa)
        return array_of(schema, table, len(body))
    except ClientError:
        raise
    except pa.ArrowMemoryError as error:
        raise ClientError(413, f"The body needs more memory than there is to be read as {name}.") from error
    # Beside its own errors Arrow lets out OSError, and Python those of times and decimals beyond what it can hold.
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        raise ClientError(400, f"The body cannot be read as {name}: {reason_of(error)}.") from error


def _safe_pyarrow() -> Any:
    """Raises UnsupportedMediaTypeError where pyarrow cannot be imported, or must not be given a client's bytes."""
    pa = imported("pyarrow", UnsupportedMediaTypeError)
    if tuple(map(int, re.findall("[0-9]+", pa.__version__)[:3])) < _FIRST_SAFE_VERSION:
        needed = ".".join(map(str, _FIRST_SAFE_VERSION))
        raise UnsupportedMediaTypeError(
            f"This server's pyarrow {pa.__version__} cannot read tables safely; it needs {needed} or newer."
        )
    return pa


def encode_parquet(value: object) -> bytes:
    """Encodes as application/vnd.apache.parquet, compressed with snappy.

    Takes an array of up to two dimensions, or what numpy makes one of (columns are named "0", "1", and so on); a dict
    of columns, equally long lists or arrays, by name; a Table or RecordBatch of pyarrow's; a DataFrame of pandas'.

    Raises:
        NotAcceptableError: value is anything else, or holds what Arrow has no type for.
    """
    parquet = imported("pyarrow.parquet", NotAcceptableError)
    return _encode(value, PARQUET, parquet.write_table)


def encode_arrow_stream(value: object) -> bytes:
    """Encodes as application/vnd.apache.arrow.stream, not compressed, what `encode_parquet` takes.

    Raises:
        NotAcceptableError: value is anything else, or holds what Arrow has no type for.
    """
    return _encode(value, ARROW_STREAM, _write_stream)


def _encode(value: object, content_type: str, write: Callable[[Any, Any], None]) -> bytes:
    pa = imported("pyarrow", NotAcceptableError)
    stream = pa.BufferOutputStream()
    try:
        write(table_of(value, content_type), stream)
    # ArrowInvalid is a ValueError, ArrowTypeError a TypeError; the third is what this kind of file lacks a type for.
    except (ValueError, TypeError, OverflowError, pa.ArrowNotImplementedError) as error:
        raise NotAcceptableError(f"{content_type} cannot hold the prediction: {reason_of(error)}.") from error
    body: bytes = stream.getvalue().to_pybytes()
    return body


def _write_stream(table: Any, stream: Any) -> None:
    ipc = imported("pyarrow.ipc", NotAcceptableError)
    with ipc.new_stream(stream, table.schema, options=ipc.IpcWriteOptions(use_threads=False)) as writer:
        writer.write_table(table)

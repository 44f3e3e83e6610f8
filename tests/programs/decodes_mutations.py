# SPDX-License-Identifier: Apache-2.0
"""Decodes bodies that hypothesis has damaged, in a process that native code may end: CONTENT_TYPE EXAMPLES LAST.

LAST is a file that holds the last body when the process has ended, however it did.
"""

from __future__ import annotations

import datetime as dt
import decimal
import importlib.util
import io
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import (
    ARROW_STREAM,
    JPEG,
    NPZ,
    PARQUET,
    PNG,
)
from sagemaker_inference_lite.errors import ClientError

EXTREMES = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def tables() -> list[Any]:
    import pyarrow as pa

    numbers = pa.table({"a": np.arange(50), "b": np.linspace(0, 1, 50), "c": [None, True] * 25})
    mixed = pa.table(
        {
            "text": ["a", None, "ccc"] * 20,
            "bytes": [b"a", b"", None] * 20,
            "when": [dt.datetime(2020, 1, 1), None, dt.datetime(1969, 1, 1)] * 20,
            "day": [dt.date(2020, 1, 1)] * 60,
            "time": [dt.time(1, 2, 3)] * 60,
            "decimal": [decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")] * 20,
            "fixed": pa.array([b"abcd"] * 60, pa.binary(4)),
            "choice": pa.array(["x", "y", None] * 20).dictionary_encode(),
        }
    )
    return [numbers, mixed]


def parquets() -> list[bytes]:
    import pyarrow.parquet as pq

    bodies = []
    for table in tables():
        for options in (
            {},
            {"compression": "zstd", "data_page_version": "2.0"},
            {"compression": "gzip", "use_dictionary": False, "row_group_size": 7},
            {"compression": "none", "use_dictionary": False, "store_schema": False},
            {"compression": "none", "data_page_version": "2.0", "write_statistics": False, "data_page_size": 64},
        ):
            stream = io.BytesIO()
            pq.write_table(table, stream, **options)
            bodies.append(stream.getvalue())
    numbers = tables()[0].select(["a", "b"])
    stream = io.BytesIO()
    encodings = {"a": "DELTA_BINARY_PACKED", "b": "BYTE_STREAM_SPLIT"}
    pq.write_table(numbers, stream, use_dictionary=False, column_encoding=encodings, compression="none")
    return [*bodies, stream.getvalue()]


def arrows() -> list[bytes]:
    import pyarrow as pa

    bodies = []
    for table in tables():
        for compression in (None, "zstd", "lz4"):
            stream = io.BytesIO()
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with pa.ipc.new_stream(stream, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=13)
            bodies.append(stream.getvalue())
    return bodies


def archives() -> list[bytes]:
    rows = np.arange(12.0).reshape(3, 4)
    bodies = [encode(rows, NPZ)[0], encode({"x": rows, "y": np.array(["a", "b"])}, NPZ)[0]]
    stream = io.BytesIO()
    np.savez_compressed(stream, a=rows, b=rows > 5)
    bodies.append(stream.getvalue())
    if importlib.util.find_spec("scipy"):
        from scipy import sparse

        for name in ("csr", "csc", "coo", "dia", "bsr"):
            stream = io.BytesIO()
            sparse.save_npz(stream, sparse.csr_matrix(rows).asformat(name), compressed=False)
            bodies.append(stream.getvalue())
    return bodies


def images(name: str) -> list[bytes]:
    from PIL import Image

    rows = (np.arange(24 * 16 * 3) % 251).astype(np.uint8).reshape(24, 16, 3)
    bodies = []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA") if name == "png" else ("L", "RGB", "CMYK"):
        for options in ({},) if name == "png" else ({}, {"progressive": True}, {"subsampling": 2}):
            stream = io.BytesIO()
            Image.fromarray(rows).convert(mode).save(stream, name, **options)
            bodies.append(stream.getvalue())
    return bodies


def mended(body: bytes, content_type: str) -> bytes:
    """The body with its sums put right, so that damage reaches what lies behind them."""
    if content_type == PNG:
        return mended_png(body)
    return body


def mended_png(body: bytes) -> bytes:
    out = bytearray(body)
    place = 8
    while place + 12 <= len(out):
        length = int.from_bytes(out[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)


@st.composite
def damage(draw: Any, bodies: list[bytes], content_type: str) -> bytes:
    body = bytearray(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(body)))
        kind = draw(st.sampled_from(["byte", "number", "cut", "remove", "insert", "repeat"]))
        if kind == "byte":
            body[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "number":
            width = draw(st.sampled_from([2, 4, 8]))
            value = draw(st.sampled_from(EXTREMES)) % 256**width
            body[place : place + width] = value.to_bytes(width, draw(st.sampled_from(["little", "big"])))
        elif kind == "cut":
            if draw(st.booleans()):
                del body[place:]
        elif kind == "remove":
            del body[place : place + draw(st.integers(1, 16))]
        elif kind == "insert":
            body[place:place] = draw(st.binary(max_size=16))
        else:
            length = draw(st.integers(1, 64))
            body[place:place] = body[place : place + length]
    body = bytes(body)
    return mended(body, content_type) if draw(st.booleans()) else body


def main(content_type: str, examples: int, last: Path) -> None:
    warnings.simplefilter("error")
    makers = {
        PARQUET: parquets,
        ARROW_STREAM: arrows,
        NPZ: archives,
        PNG: lambda: images("png"),
        JPEG: lambda: images("jpeg"),
    }
    bodies = makers[content_type]()
    for body in bodies:
        decode(body, content_type)
    counts = {200: 0, 400: 0, 413: 0, 415: 0}

    def check(body: bytes) -> None:
        last.write_bytes(body)
        try:
            decode(body, content_type)
        except ClientError as error:
            counts[error.status] += 1  # any other is a KeyError
            if len(error.message) > 1000:
                raise RuntimeError(error.message) from error
        else:
            counts[200] += 1

    run = given(damage(bodies, content_type))(check)
    run = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(run)
    run()
    print(counts)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

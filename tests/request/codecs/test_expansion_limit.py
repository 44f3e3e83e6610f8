# SPDX-License-Identifier: Apache-2.0
"""What a body may expand to: bodies that mean harm, each decoded in a process whose memory is measured."""

from __future__ import annotations

import base64
import functools
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoded_apart import decoded_apart

from sagemaker_inference_lite.codecs import decode, max_expanded_bytes
from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.content_types import ARROW_STREAM, JPEG, NPZ, PARQUET, PNG
from sagemaker_inference_lite.errors import ClientError

MEGABYTE = 1024 * 1024
# What the libraries themselves take, which are imported with the first body.
MARGIN = 160 * MEGABYTE

MUTATIONS = Path(__file__).parents[2] / "programs" / "decodes_mutations.py"

needs_pyarrow = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('pyarrow')", reason="needs pyarrow")
needs_pillow = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('PIL')", reason="needs Pillow")


def refused(body: bytes, content_type: str, status: int = 413) -> str:
    """The message that a body is refused with, in little memory."""
    outcome = decoded_apart(body, content_type)
    assert outcome.status == status, outcome
    assert outcome.growth < MARGIN
    return outcome.message


def accepted(body: bytes, content_type: str) -> None:
    """Decodes a body that expands to nearly as much as it may, in the memory that is stated."""
    outcome = decoded_apart(body, content_type)
    assert outcome.status == 200, outcome
    assert outcome.growth < 2 * max_expanded_bytes(len(body)) + MARGIN


def test_the_bound_is_256_mib_or_four_times_the_body() -> None:
    """A small body may expand to 256 MiB, a large one to four times its length."""
    assert max_expanded_bytes(0) == max_expanded_bytes(64 * MEGABYTE) == 256 * MEGABYTE
    assert max_expanded_bytes(100 * MEGABYTE) == 400 * MEGABYTE


def test_room_is_taken_until_none_is_left() -> None:
    """What is counted adds up to the bound exactly; one byte more is 413, and the message says what it was."""
    room = ExpansionLimit(1)
    room.take(255 * MEGABYTE, "One")
    room.take(MEGABYTE, "Another")
    room.take(0, "Nothing")
    with pytest.raises(ClientError, match="The straw would expand the body to more than 268435456 bytes") as caught:
        room.take(1, "The straw")
    assert caught.value.status == 413


# -- NPZ ---------------------------------------------------------------------------------------------------------------


@functools.cache
def deflated(size: int, count: int) -> bytes:
    """An archive of that many arrays of zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for place in range(count):
            with archive.open(f"{place}.npy", "w") as member:
                np.lib.format.write_array(member, np.zeros(size, np.uint8), allow_pickle=False)
    return stream.getvalue()


@pytest.mark.parametrize(("size", "count"), [(300 * MEGABYTE, 1), (20 * MEGABYTE, 13)])
def test_npz_counts_what_all_members_unpack_to(size: int, count: int) -> None:
    """One member too large, or several that are so together, are refused."""
    assert "of the NPZ would expand" in refused(deflated(size, count), NPZ)


def test_npz_below_the_bound_is_decoded() -> None:
    """An archive that unpacks to less than the bound is decoded, in no more memory than that."""
    accepted(deflated(20 * MEGABYTE, 12), NPZ)


def test_npz_that_understates_its_size_is_400() -> None:
    """What a member really unpacks to counts: one that says it is small is not unpacked further than it says."""
    body = bytearray(deflated(300 * MEGABYTE, 1))
    struct.pack_into("<L", body, body.rindex(b"PK\1\2") + 24, 1000)
    refused(bytes(body), NPZ, 400)


@pytest.mark.parametrize("count", [1, 65535])
def test_npz_with_a_huge_directory_is_413_at_once(count: int) -> None:
    """A directory of half a million entries is not read, whatever number of them it states."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 15)
    directory = entry * (25_000_000 // len(entry))
    body = directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), 0, 0)
    assert f"{count} members" in refused(body, NPZ)


def test_npz_with_long_extra_fields_is_413_at_once() -> None:
    """Python's zipfile takes time with the square of an entry's extra field, so directories have a largest size."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 7, 0, 65532, *[0] * 6)
    directory = (entry + b"\xff\xff\0\0" * 16383) * 300
    body = directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 300, 300, len(directory), 0, 0)
    refused(body, NPZ)


# -- Images ------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG of eight bits with that header and those rows, whatever they are."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, **options: Any) -> bytes:
    """A JPEG of one colour."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "jpeg", **options)
    return stream.getvalue()


@needs_pillow
@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1)]
)
@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_images_are_measured_before_they_are_decoded(width: int, height: int, colour: int) -> None:
    """A PNG that claims more pixels than there is room for is refused by its header."""
    with pytest.raises(ClientError) as caught:
        decode(png(width, height, colour), PNG)
    assert caught.value.status == 413
    assert f"{width} x {height} pixels" in caught.value.message


@needs_pillow
def test_image_bombs_are_413() -> None:
    """Images that really hold that many pixels are refused in little memory, and Pillow warns nobody."""
    refused(png(8300, 8300, 2, b"\0" * (24_901 * 8300)), PNG)
    refused(jpeg(8300, 8300), JPEG)
    refused(jpeg(6800, 6800, progressive=True), JPEG)


@needs_pillow
def test_images_below_the_bound_are_decoded() -> None:
    """Images below the bound are decoded, though Pillow itself would refuse the first and warn of the others."""
    accepted(png(13_500, 13_500, 0, b"\0" * (13_501 * 13_500)), PNG)
    accepted(jpeg(8000, 8000), JPEG)
    accepted(jpeg(6500, 6500, progressive=True), JPEG)


@needs_pillow
def test_a_png_that_claims_what_it_has_not_is_400() -> None:
    """Below the bound an image must have the pixels that it claims."""
    outcome = decoded_apart(png(8000, 8000, 2, b"\0" * 1000), PNG)
    assert outcome.status == 400
    assert outcome.growth < max_expanded_bytes(0) + MARGIN


# -- Tables ------------------------------------------------------------------------------------------------------------


def parquet(table: Any, **options: Any) -> bytes:
    """The table as Parquet."""
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def arrow_stream(table: Any, copies: int = 1, **options: Any) -> bytes:
    """The table, so many times, as an Arrow stream."""
    import pyarrow as pa

    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(copies):
            writer.write_table(table)
    return stream.getvalue()


def varint(number: int) -> bytes:
    """A number as Thrift writes it, signed."""
    left, out = number << 1, b""
    while left > 127:
        out += bytes([left & 127 | 128])
        left >>= 7
    return out + bytes([left])


def shared_fields(count: int, length: int) -> bytes:
    """A schema that has one field so many times, with a name of that length, each in four bytes."""
    import pyarrow as pa

    message = bytes(pa.schema([("x" * length, pa.float64())]).serialize())
    plain = message[8 : 8 + struct.unpack_from("<I", message, 4)[0]]

    def member(table: int, number: int) -> int:
        names = table - struct.unpack_from("<i", plain, table)[0]
        return table + int(struct.unpack_from("<H", plain, names + 4 + 2 * number)[0])

    def referred(place: int) -> int:
        return place + int(struct.unpack_from("<I", plain, place)[0])

    fields = member(referred(member(referred(0), 2)), 1)
    field = referred(referred(fields) + 4)
    # Offsets point forward only: the fields go behind the old schema, and a copy of that, with the field, behind them.
    start = len(plain)
    copy = start + 8 * (count // 2 + 1)
    out = bytearray(plain.ljust(copy, b"\0") + plain)
    struct.pack_into("<I", out, start, count)
    place = start + 4 + 4 * np.arange(count)
    out[start + 4 : start + 4 + 4 * count] = (copy + field - place).astype("<u4").tobytes()
    struct.pack_into("<I", out, fields, start - fields)
    out += b"\0" * (-len(out) % 8)
    return b"\xff\xff\xff\xff" + struct.pack("<I", len(out)) + bytes(out) + b"\xff\xff\xff\xff\0\0\0\0"


@needs_pyarrow
@pytest.mark.parametrize("compression", ["zstd", "snappy", "brotli"])
def test_parquet_pages_are_counted_before_they_are_unpacked(compression: str) -> None:
    """A page that unpacks to more than the bound is refused in little memory."""
    import pyarrow as pa

    table = pa.table({"a": pa.array([bytes(260 * MEGABYTE)], pa.binary())})
    body = parquet(table, compression=compression, use_dictionary=False, write_statistics=False)
    assert "A page of the column 'a'" in refused(body, PARQUET)


@needs_pyarrow
def test_many_small_pages_are_counted_together() -> None:
    """Pages that fit one by one are refused where all of them together do not."""
    import pyarrow as pa

    table = pa.table({"a": pa.array([bytes(10 * MEGABYTE)] * 30, pa.binary())})
    body = parquet(table, compression="zstd", use_dictionary=False, write_statistics=False, data_page_size=1)
    assert "A page of the column 'a'" in refused(body, PARQUET)


@needs_pyarrow
def test_parquet_whose_page_lies_is_refused() -> None:
    """What a page's own header says counts, whatever the footer adds up to."""
    import pyarrow as pa

    size = 128 * MEGABYTE
    schema = pa.schema([pa.field("a", pa.binary(), nullable=False)])
    table = pa.table([pa.array([bytes(size - 4)], pa.binary())], schema=schema)
    body = parquet(table, compression="zstd", use_dictionary=False, write_statistics=False)
    lie = body.replace(varint(size), varint(2**30), 1)
    assert lie != body
    assert "A page of the column 'a'" in refused(lie, PARQUET)
    understated = body.replace(varint(size), varint(size - 1), 1)
    assert decoded_apart(understated, PARQUET).status == 400


@needs_pyarrow
def test_parquet_with_more_cells_than_room_is_413() -> None:
    """Runs of one value make millions of rows of a few bytes; they are counted before they are made."""
    import pyarrow as pa

    assert "40000000 rows and 1 columns" in refused(parquet(pa.table({"a": np.zeros(40_000_000, np.int8)})), PARQUET)
    accepted(parquet(pa.table({"a": np.zeros(33_000_000, np.int8)})), PARQUET)


@needs_pyarrow
def test_parquet_that_lies_about_its_rows_is_refused() -> None:
    """The rows of file, group and column must be the same, and are counted before room is made for them."""
    import pyarrow as pa

    count = 123_456
    body = parquet(pa.table({"a": np.arange(count)}), write_statistics=False)
    start = len(body) - 8 - struct.unpack_from("<I", body, len(body) - 8)[0]
    for number, status in ((2**20 - 1, 400), (2**19, 400)):
        footer = body[start:-8].replace(varint(count), varint(number))
        assert footer != body[start:-8]
        lie = body[:start] + footer + struct.pack("<I", len(footer)) + b"PAR1"
        assert decoded_apart(lie, PARQUET).status == status
    footer = body[start:-8].replace(varint(count), varint(10**12))
    refused(body[:start] + footer + struct.pack("<I", len(footer)) + b"PAR1", PARQUET)


@needs_pyarrow
def test_parquet_with_lists_of_nothing_is_400() -> None:
    """Arrow would make a million columns of this, in three quarters of a gigabyte, before it looks for the first."""
    head = b"\x15\x02\x19\x1c\x48\x01a\x00\x16\x00\x19\x1c\x19\xfc"
    footer = head + b"\xc0\x84\x3d"
    refused(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1", PARQUET, 400)


@needs_pyarrow
@pytest.mark.parametrize(("content_type", "write"), [(PARQUET, parquet), (ARROW_STREAM, arrow_stream)])
def test_long_texts_in_dictionaries_are_not_repeated(content_type: str, write: Any) -> None:
    """A text of 100,000 characters in a million rows, 100 GB if it were written out, stays one object."""
    import pyarrow as pa

    places = pa.array(np.zeros(1_000_000, np.int32))
    table = pa.table({"a": pa.DictionaryArray.from_arrays(places, ["x" * 100_000])})
    accepted(write(table), content_type)


@needs_pyarrow
@pytest.mark.parametrize(("content_type", "write"), [(PARQUET, parquet), (ARROW_STREAM, arrow_stream)])
def test_pythons_objects_are_counted(content_type: str, write: Any) -> None:
    """Short texts take many times their length as Python's objects, and that is counted too."""
    import pyarrow as pa

    table = pa.table({"a": pa.array(np.arange(3_500_000)).cast("string")})
    assert "The table's text would expand" in decoded_apart(write(table), content_type).message


@needs_pyarrow
def test_text_beyond_latin_is_counted_as_python_keeps_it() -> None:
    """One character beyond Latin makes each of its text take four bytes."""
    import pyarrow as pa

    plain: dict[str, Any] = {"use_dictionary": False, "write_statistics": False}
    beyond, within = (pa.table({"a": ["x" * 70_000_000 + end]}) for end in ("\U0001f600", ""))
    assert "The table's text" in decoded_apart(parquet(beyond, **plain), PARQUET).message
    accepted(parquet(within, **plain), PARQUET)


@needs_pyarrow
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_arrow_buffers_are_counted_before_they_are_unpacked(compression: str) -> None:
    """Buffers that unpack to half a gigabyte are refused in little memory, in one batch or many."""
    import pyarrow as pa

    one = arrow_stream(pa.table({"a": np.zeros(64 * MEGABYTE)}), compression=compression)
    many = arrow_stream(pa.table({"a": pa.array([bytes(MEGABYTE)])}), 300, compression=compression)
    for body in (one, many):
        assert "A compressed buffer" in refused(body, ARROW_STREAM)


@needs_pyarrow
def test_arrow_buffers_that_lie_are_refused() -> None:
    """A compressed buffer counts as what it says that it holds, and may not hold more."""
    import pyarrow as pa

    size = 100 * MEGABYTE
    body = arrow_stream(pa.table({"a": np.zeros(size // 8)}), compression="zstd")
    for number, status in ((2**62, 413), (2**40, 413), (1000, 400), (-5, 400)):
        lie = body.replace(struct.pack("<q", size), struct.pack("<q", number))
        refused(lie, ARROW_STREAM, status)


@needs_pyarrow
def test_rows_of_nothing_are_counted() -> None:
    """A column of nulls has no bytes, however many rows it claims."""
    import pyarrow as pa

    assert "1000000000 rows" in refused(arrow_stream(pa.table({"a": pa.nulls(10**9)})), ARROW_STREAM)
    lie = arrow_stream(pa.table({"a": pa.nulls(10**9)})).replace(struct.pack("<q", 10**9), struct.pack("<q", -1))
    refused(lie, ARROW_STREAM, 400)


@needs_pyarrow
@pytest.mark.parametrize(("count", "length"), [(100_000, 100_000), (1_000_000, 10)])
def test_fields_that_are_one_and_the_same_are_counted(count: int, length: int) -> None:
    """In a FlatBuffer a field may stand in many places: 600 kB of them would be ten gigabytes of names to Arrow."""
    import pyarrow as pa

    schema = shared_fields(count, length)
    assert "The schema" in refused(schema, ARROW_STREAM)
    encoded = base64.b64encode(schema)
    table = pa.table({"a": [1]}).replace_schema_metadata({"XRROW:schema": encoded})
    body = parquet(table)
    assert b"XRROW:schema" in body
    assert "The schema" in refused(body.replace(b"XRROW:schema", b"ARROW:schema"), PARQUET)


@needs_pyarrow
def test_shared_views_are_counted() -> None:
    """Views of one text, a megabyte in each of a million rows, are counted before anyone looks at the text."""
    import pyarrow as pa

    if not hasattr(pa, "string_view"):
        pytest.skip("this pyarrow has no views")
    _, views, text = pa.array(["x" * MEGABYTE], pa.string_view()).buffers()
    many = np.tile(np.frombuffer(views, np.uint8)[:16], MEGABYTE).tobytes()
    column = pa.Array.from_buffers(pa.string_view(), MEGABYTE, [None, pa.py_buffer(many), text])
    assert "The table's text" in refused(arrow_stream(pa.table({"a": column})), ARROW_STREAM)


@needs_pyarrow
def test_a_shared_dictionary_is_looked_at_once() -> None:
    """The batches of a stream share their dictionary; it is checked and converted for the first of them only."""
    import pyarrow as pa

    column = pa.DictionaryArray.from_arrays(pa.array([0]), [str(place) for place in range(200_000)])
    accepted(arrow_stream(pa.table({"a": column}), 20_000), ARROW_STREAM)


@needs_pyarrow
def test_many_batches_are_counted() -> None:
    """Each batch and each of its columns takes memory, however few rows it has."""
    import pyarrow as pa

    accepted(arrow_stream(pa.table({"a": pa.nulls(1)}), 50_000), ARROW_STREAM)
    columns = pa.table({str(place): pa.nulls(1) for place in range(300)})
    assert "batches would expand" in refused(arrow_stream(columns, 1000), ARROW_STREAM)


# -- Damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [NPZ, PNG, JPEG, ARROW_STREAM, PARQUET])
def test_damaged_bodies_decode_or_are_refused(content_type: str, tmp_path: Path) -> None:
    """No damage brings forth anything but a ClientError: no other exception, no warning, no crash of native code."""
    if content_type in (ARROW_STREAM, PARQUET):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    if content_type in (PNG, JPEG):
        pytest.importorskip("PIL", reason="Pillow is not installed")
    last = tmp_path / "last"
    command = [sys.executable, str(MUTATIONS), content_type, "400", str(last)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100)
    assert run.returncode == 0, (run.returncode, run.stderr[-4000:], last.read_bytes())

# SPDX-License-Identifier: Apache-2.0
"""Parquet and Arrow streams."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from bodies import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import ARROW_STREAM, PARQUET, X_PARQUET
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

TYPES = [PARQUET, X_PARQUET, ARROW_STREAM]
UTC = dt.timezone.utc


def parquet(table: Any, **options: Any) -> bytes:
    """The table as Parquet."""
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def arrow_stream(table: Any, max_chunksize: int | None = None, **options: Any) -> bytes:
    """The table as an Arrow stream."""
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=max_chunksize)
    return stream.getvalue()


WRITERS: list[tuple[str, Callable[[Any], bytes]]] = [(PARQUET, parquet), (ARROW_STREAM, arrow_stream)]


def array_of(body: bytes, content_type: str) -> Any:
    """What a body decodes to, which must be an array of two dimensions."""
    array = decode(body, content_type)
    assert isinstance(array, np.ndarray)
    assert array.ndim == 2
    assert array.flags.writeable
    return array


def same(found: Any, expected: list[list[Any]]) -> bool:
    """Whether two tables are equal, their types too."""
    return found.tolist() == expected and [list(map(type, row)) for row in found.tolist()] == [
        list(map(type, row)) for row in expected
    ]


# -- Decoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
def test_tables_of_numbers_are_float64(content_type: str, write: Any) -> None:
    """Where all columns hold numbers or booleans the array is float64, and null is NaN, in whatever type they came."""
    columns: dict[str, Any] = {
        **{
            str(kind): pa.array([1, None, 3], kind)
            for kind in (
                pa.int8(),
                pa.int16(),
                pa.int32(),
                pa.int64(),
                pa.uint8(),
                pa.uint16(),
                pa.uint32(),
                pa.uint64(),
            )
        },
        **{str(kind): pa.array([1, None, 3], kind) for kind in (pa.float32(), pa.float64())},
        "half": pa.array([np.float16(1), None, np.float16(3)], pa.float16()),
        "decimal": pa.array([Decimal(1), None, Decimal(3)], pa.decimal128(5, 2)),
        "dictionary": pa.array([1, None, 3]).dictionary_encode(),
    }
    if content_type == PARQUET and int(pa.__version__.split(".")[0]) < 15:
        del columns["half"]  # no type of Parquet's then
    array = array_of(write(pa.table(columns)), content_type)
    assert array.dtype == np.float64
    assert np.array_equal(array, np.outer([1, np.nan, 3], np.ones(len(columns))), equal_nan=True)
    flags = pa.table({"a": [True, None, False], "b": pa.nulls(3)})
    assert np.array_equal(
        array_of(write(flags), content_type), [[1, np.nan], [np.nan] * 2, [0, np.nan]], equal_nan=True
    )


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["a", None, "grün\U0001f600"], None),
        ([b"a", None, b""], None),
        ([dt.datetime(2020, 1, 2, 3, 4, 5, 6), None, dt.datetime(1, 1, 1)], None),
        ([dt.date(2020, 1, 2), None, dt.date(9999, 12, 31)], None),
        ([dt.time(1, 2, 3, 4), None, dt.time(0)], None),
        (pa.array([1, None, 3], pa.time32("s")), [dt.time(0, 0, 1), None, dt.time(0, 0, 3)]),
        (pa.array([1999, None, 0], pa.time64("ns")), [dt.time(0, 0, 0, 1), None, dt.time(0)]),
        ([dt.timedelta(1, 2, 3), None, dt.timedelta(-1)], None),
        (pa.array([1999, None, 0], pa.duration("ns")), [dt.timedelta(microseconds=1), None, dt.timedelta(0)]),
        (
            pa.array([1_999, None, -1], pa.timestamp("ns")),
            [dt.datetime(1970, 1, 1, 0, 0, 0, 1), None, dt.datetime(1969, 12, 31, 23, 59, 59, 999999)],
        ),
        (
            pa.array([0, None, 1], pa.timestamp("us", "Europe/Paris")),
            [dt.datetime(1970, 1, 1, tzinfo=UTC), None, dt.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
        ),
        (pa.array([0, None, 86_400_000], pa.date64()), [dt.date(1970, 1, 1), None, dt.date(1970, 1, 2)]),
        (pa.array([b"ab", None, b"cd"], pa.binary(2)), [b"ab", None, b"cd"]),
        (pa.array(["a", None, "a"], pa.large_string()), ["a", None, "a"]),
        (pa.array([b"a", None, b"a"], pa.large_binary()), [b"a", None, b"a"]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([dt.date(2020, 1, 1), None] * 1 + [None]).dictionary_encode(), [dt.date(2020, 1, 1), None, None]),
    ],
    ids=lambda value: str(getattr(value, "type", ""))[:20],
)
def test_other_tables_hold_pythons_objects(content_type: str, write: Any, column: Any, expected: Any) -> None:
    """A column of anything else makes an array of Python's own objects, and null is None; numbers stay numbers."""
    table = pa.table(
        {
            "value": column,
            "int": [1, None, 2**60],
            "float": [0.5, None, 1.0],
            "bool": [True, None, False],
            "decimal": [Decimal("1.50"), None, Decimal(0)],
            "null": pa.nulls(3),
            "whole": [1, 2, 3],
        }
    )
    expected = column if expected is None else expected
    array = array_of(write(table), content_type)
    assert array.dtype == object
    rows = [
        [expected[0], 1, 0.5, True, Decimal("1.50"), None, 1],
        [expected[1], None, None, None, None, None, 2],
        [expected[2], 2**60, 1.0, False, Decimal(0), None, 3],
    ]
    assert same(array, rows)


def test_views_are_text_too() -> None:
    """What some libraries write as views of text decodes as text does."""
    if not hasattr(pa, "string_view"):
        pytest.skip("this pyarrow has no views")
    table = pa.table(
        {"a": pa.array(["short", None, "x" * 30], pa.string_view()), "b": pa.array([b"a"] * 3, pa.binary_view())}
    )
    assert same(array_of(arrow_stream(table.slice(1)), ARROW_STREAM), [[None, b"a"], ["x" * 30, b"a"]])


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 1), (1, 5)])
def test_shapes_are_kept(content_type: str, shape: tuple[int, int]) -> None:
    """However few rows and columns there are, the array has two dimensions, one row a record."""
    assert array_of(encode(np.ones(shape), content_type)[0], content_type).shape == shape


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_parquet_is_read_however_it_is_written(compression: str, version: str, use_dictionary: bool) -> None:
    """Each compression, both kinds of page, several groups of rows and several pages decode to the same."""
    count = 5000
    table = pa.table({"a": np.arange(count) % 7, "b": [None if place % 3 else str(place) for place in range(count)]})
    options: dict[str, Any] = {"data_page_size": 100, "row_group_size": 1999, "use_dictionary": use_dictionary}
    body = parquet(table, compression=compression, data_page_version=version, **options)
    array = array_of(body, PARQUET)
    assert array[:, 0].tolist() == table["a"].to_pylist()
    assert array[:, 1].tolist() == table["b"].to_pylist()


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_streams_are_read_however_they_are_written(compression: str | None) -> None:
    """Each compression, several batches, and a dictionary that is replaced decode to the same."""
    tables = [
        pa.table({"a": np.arange(100), "b": pa.array([word] * 100).dictionary_encode()}) for word in ("one", "two")
    ]
    body = arrow_stream(pa.concat_tables(tables), 30, compression=compression, unify_dictionaries=False)
    array = array_of(body, ARROW_STREAM)
    assert array[:, 0].tolist() == [*range(100)] * 2
    assert array[:, 1].tolist() == ["one"] * 100 + ["two"] * 100


def test_columns_may_have_any_names() -> None:
    """Names are dropped, so that two equal ones, an empty one, or one with a dot say nothing."""
    table = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array(["c"]), pa.array(["d"])], ["x", "x", "", "x.y"])
    for content_type, write in WRITERS:
        assert array_of(write(table), content_type).tolist() == [["a", "b", "c", "d"]]


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
@pytest.mark.parametrize(
    "column",
    [
        [[1], [2]],
        [{"a": 1}, {"a": 2}],
        pa.array([[(1, 2)], []], pa.map_(pa.int8(), pa.int8())),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
        pa.array([{"a": {"b": 1}}, None]),
    ],
    ids=lambda value: str(type(value)),
)
def test_nested_columns_are_400_with_their_name(content_type: str, write: Any, column: Any) -> None:
    """A column with more than one value in a row has no place in two dimensions, and is named."""
    assert "'odd' is nested" in refusal(write(pa.table({"even": [1, 2], "odd": column})), content_type)


def test_types_without_an_object_are_400_with_their_name() -> None:
    """A column whose type Python has no object for is named."""
    months = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    assert "'odd' is of the type month_day_nano" in refusal(arrow_stream(pa.table({"odd": months})), ARROW_STREAM)


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
@pytest.mark.parametrize("value", [2**60, -(2**60), 253_402_300_800_000, -62_135_596_800_001])
def test_dates_beyond_pythons_are_400(content_type: str, write: Any, value: int) -> None:
    """A time before the year 1 or after 9999 is refused, and does not become a number."""
    assert "years 1 to 9999" in refusal(write(pa.table({"a": pa.array([value], pa.timestamp("ms"))})), content_type)


def test_decimals_beyond_pythons_are_400() -> None:
    """A decimal with more places than Python's context takes is refused, and is no fault of the server's."""
    table = pa.table({"a": pa.array([None, 1], pa.decimal128(38, 0)), "b": ["x", "y"]})
    assert same(array_of(arrow_stream(table), ARROW_STREAM), [[None, "x"], [Decimal(1), "y"]])
    wild = pa.Array.from_buffers(pa.decimal128(1, -(2**31)), 2, table["a"].chunk(0).buffers())
    assert status_of(arrow_stream(pa.table({"a": wild, "b": ["x", "y"]})), ARROW_STREAM) in (200, 400)


def test_types_of_their_own_are_what_they_are_stored_as() -> None:
    """A UUID is its 16 bytes, whether this pyarrow knows that type or not."""
    if not hasattr(pa, "uuid"):
        pytest.skip("this pyarrow has no UUIDs")
    column = pa.array([b"0123456789abcdef", None], pa.uuid())
    for content_type, write in WRITERS:
        array = array_of(write(pa.table({"a": column, "b": [1, 2]})), content_type)
        assert same(array, [[b"0123456789abcdef", 1], [None, 2]])


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
def test_text_with_a_type_of_its_own_is_400(content_type: str, write: Any) -> None:
    """Arrow would repeat it in each row, however often it stands in a few bytes."""
    if not hasattr(pa, "json_"):
        pytest.skip("this pyarrow has no JSON")
    column = pa.ExtensionArray.from_storage(pa.json_(pa.utf8()), pa.array(['"x"'] * 9))
    assert "'odd' is of the type extension" in refusal(write(pa.table({"odd": column})), content_type)


def test_an_arrow_file_is_told_from_a_stream() -> None:
    """Feather, and what new_file() writes, is no damaged stream, and the message says what it is."""
    table = pa.table({"a": [1]})
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    assert "is an Arrow file" in refusal(stream.getvalue(), ARROW_STREAM)


def test_encoding_without_a_known_size_is_400() -> None:
    """Text in DELTA encodings may unpack to anything, and the message says which column has it."""
    for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
        body = parquet(pa.table({"long": ["abc"] * 9}), use_dictionary=False, column_encoding=encoding)
        assert f"'long' is encoded as {encoding}" in refusal(body, PARQUET)


def test_dictionaries_in_parts_are_400() -> None:
    """A dictionary that grows from batch to batch would be put together anew for each of them."""
    batches = [pa.record_batch([pa.DictionaryArray.from_arrays([0], words)], ["a"]) for words in (["x"], ["x", "y"])]
    stream = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(stream, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    assert "(deltas)" in refusal(stream.getvalue(), ARROW_STREAM)


@pytest.mark.parametrize(("content_type", "write"), WRITERS)
def test_truncated_tables_are_400(content_type: str, write: Any) -> None:
    """A body that is cut short anywhere is the client's mistake."""
    body = write(pa.table({"a": range(30), "b": ["x"] * 30}))
    for end in range(0, len(body) - 9, 5):
        refusal(body[:end], content_type) if content_type == PARQUET else status_of(body[:end], content_type)


def status_of(body: bytes, content_type: str) -> int:
    """The status that a body is answered with. A stream of Arrow's may end after any of its batches."""
    try:
        decode(body, content_type)
    except ClientError as error:
        return error.status
    return 200


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1PAR1", b"text" * 10, b"\xff" * 40, b"\0" * 40, b"PAR1" * 10])
def test_what_is_no_table_is_400(content_type: str, body: bytes) -> None:
    """A body that is neither is refused."""
    refusal(body, content_type)


def test_text_that_is_not_utf8_is_400() -> None:
    """Text is checked before anyone reads it."""
    for content_type, write in WRITERS:
        body = write(pa.table({"a": ["needle", "x"]})).replace(b"needle", b"\xff\xfe\xfd\xfc\xfb\xfa")
        refusal(body, content_type)


def test_large_tables_are_decoded() -> None:
    """25 MB are decoded, of numbers and of text."""
    numbers = np.random.default_rng(1).random((100_000, 31))
    words = [f"a text that is number {place}" for place in range(1_000_000)]
    for content_type, write in WRITERS:
        assert np.array_equal(array_of(encode(numbers, content_type)[0], content_type), numbers)
        assert array_of(write(pa.table({"a": words})), content_type)[:, 0].tolist() == words


def test_no_threads_are_started() -> None:
    """Workers are forked and counted by their operator: pyarrow runs in the thread that it is called from."""
    code = (
        "import os\n"
        "import numpy as np\n"
        "import pyarrow.parquet\n"
        "from sagemaker_inference_lite.codecs import decode, encode\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        f"for name in {TYPES!r}:\n"
        "    decode(encode(np.ones((100_000, 8)), name)[0], name)\n"
        "    decode(encode({'a': ['x'] * 1000}, name)[0], name)\n"
        "after = len(os.listdir('/proc/self/task'))\n"
        "assert before == after, (before, after)\n"
    )
    # At import pyarrow's allocator starts one, and so do libraries of linear algebra.
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# -- Encoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", TYPES)
@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(), min_size=2, max_size=2), min_size=1, max_size=20))
def test_numbers_survive_a_round_trip(content_type: str, rows: list[list[float]]) -> None:
    """Floats are kept, those that are not finite too."""
    body, written = encode(np.array(rows), content_type)
    assert written == content_type
    assert np.array_equal(array_of(body, content_type), rows, equal_nan=True)


FIELDS = st.one_of(
    *(
        st.lists(st.none() | values, min_size=3, max_size=3)
        for values in (
            st.text(st.characters(exclude_categories=["Cs"])),
            st.binary(),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.floats(allow_nan=False),
            st.datetimes(),
            st.dates(),
            st.times(),
            st.timedeltas(dt.timedelta(-99999), dt.timedelta(99999)),
            st.datetimes(timezones=st.just(UTC)),
        )
    )
)


@pytest.mark.parametrize("content_type", TYPES)
@settings(deadline=None, max_examples=100)
@given(st.lists(FIELDS, min_size=1, max_size=4))
def test_objects_survive_a_round_trip(content_type: str, columns: list[list[Any]]) -> None:
    """Columns of Python's objects are kept; a table whose columns are all of text has them too."""
    named = {**{str(place): column for place, column in enumerate(columns)}, "text": ["a", "b", None]}
    decoded = array_of(encode(named, content_type)[0], content_type)
    assert same(decoded, [list(row) for row in zip(*named.values())])


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, [[1]]),
        ([1, 2], [[1], [2]]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (np.array([[1, 2]], ">i4"), [[1, 2]]),
        (np.array([True, False]), [[1], [0]]),
        (np.ma.array([1, 2], mask=[False, True]), [[1], [None]]),
        (np.array([["a", "b"]]), [["a", "b"]]),
        (np.array(["2020-01-02"], "datetime64[D]"), [[dt.date(2020, 1, 2)]]),
        ([["a", 1]], [["a", "1"]]),
        (np.array([["a", None]], object), [["a", None]]),
        ({"x": [1, 2], "y": np.array([0.5, 1.5])}, [[1, 0.5], [2, 1.5]]),
        ({"x": (1, 2), 3: ["a", "b"]}, [[1, "a"], [2, "b"]]),
        ({"x": pa.array([1, 2])}, [[1], [2]]),
        (pa.table({"x": [1, 2]}), [[1], [2]]),
        (pa.RecordBatch.from_pydict({"x": [1, 2]}), [[1], [2]]),
        ({"x": []}, []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_encoded_is_a_table(content_type: str, value: object, expected: list[list[Any]]) -> None:
    """Arrays of up to two dimensions, dicts of columns, and Arrow's own tables are written."""
    found = array_of(encode(value, content_type)[0], content_type)
    if found.dtype == np.float64:
        assert np.array_equal(found.reshape(-1), np.array(expected, float).reshape(-1), equal_nan=True)
    else:
        assert found.tolist() == expected


def test_columns_are_named() -> None:
    """Columns of an array are named by their place, those of a dict by their keys."""
    assert pq.read_table(io.BytesIO(encode([[1, 2]], PARQUET)[0])).column_names == ["0", "1"]
    body = encode({"x": [1], 3: [2]}, ARROW_STREAM)[0]
    assert pa.ipc.open_stream(body).read_all().column_names == ["x", "3"]


def test_data_frames_are_encoded() -> None:
    """A DataFrame of pandas' is written with its columns' names and types."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"x": [1, 2], "y": ["a", None]})
    assert pq.read_table(io.BytesIO(encode(frame, PARQUET)[0])).to_pylist() == [{"x": 1, "y": "a"}, {"x": 2, "y": None}]
    with pytest.raises(NotAcceptableError):
        encode(pandas.DataFrame({"x": [1, "a"]}), PARQUET)


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 2, 2)),
        [[1], [2, 3]],
        np.array([1j]),
        [{"a": 1}],
        ...,
        {"a": [1], "b": [1, 2]},
        {"a": 1},
        {"a": np.eye(2)},
        {"a": [[1], [2]]},
        {"a": [...]},
        {"a": [1, "x"]},
        {"a": ["\ud800"]},
        {"a": [2**70]},
        np.zeros(2, "i4,f8"),
    ],
    ids=str,
)
def test_what_tables_cannot_hold_is_406(content_type: str, value: object) -> None:
    """More dimensions, ragged or nested columns, and what Arrow has no type for, are refused."""
    with pytest.raises(NotAcceptableError, match=r"application/vnd\.apache.* (cannot hold|holds)"):
        encode(value, content_type)

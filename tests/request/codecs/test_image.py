# SPDX-License-Identifier: Apache-2.0
"""image/png and image/jpeg."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from bodies import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import JPEG, PNG
from sagemaker_inference_lite.errors import NotAcceptableError

pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image


def pixels(*shape: int) -> Any:
    """An image whose every pixel differs from its neighbours."""
    return (np.arange(np.prod(shape)) * 37 % 256).astype(np.uint8).reshape(shape)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    """The image as a body."""
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def array_of(body: bytes, content_type: str) -> Any:
    """What a body decodes to, which must be an image's array."""
    array = decode(body, content_type)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    assert array.ndim == 3
    assert array.flags.writeable
    return array


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG with that header and those rows, whatever they are."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]), st.randoms())
def test_png_survives_a_round_trip(height: int, width: int, channels: int, random: Any) -> None:
    """PNG keeps every pixel of gray, RGB and RGBA."""
    size = height * width * channels
    image = np.frombuffer(bytes(random.getrandbits(8) for _ in range(size)), np.uint8).reshape(height, width, channels)
    assert np.array_equal(array_of(encode(image, PNG)[0], PNG), image)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 255))
def test_jpeg_survives_a_round_trip_nearly(height: int, width: int, channels: int, level: int) -> None:
    """JPEG keeps the shape, and an even colour to within what it rounds off."""
    image = np.full((height, width, channels), level, np.uint8)
    found = array_of(encode(image, JPEG)[0], JPEG)
    assert found.shape == image.shape
    assert np.abs(found.astype(int) - level).max() <= 2


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 4), ("P", 3), ("RGB", 3), ("RGBA", 4)])
def test_png_modes_have_their_channels(mode: str, channels: int) -> None:
    """Gray has one channel, RGB and palettes three, and what is transparent in part four."""
    image = Image.fromarray(pixels(5, 7, 3)).convert(mode)
    array = array_of(saved(image, "png"), PNG)
    assert array.shape == (5, 7, channels)
    whole = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    assert np.array_equal(array, np.asarray(whole).reshape(array.shape))


def test_palette_with_transparency_is_rgba() -> None:
    """A palette in which a colour is transparent becomes RGBA."""
    image = Image.fromarray(pixels(5, 7, 3)).convert("P")
    array = array_of(saved(image, "png", transparency=image.getpixel((0, 0))), PNG)
    assert array.shape == (5, 7, 4)
    assert array[0, 0, 3] == 0


def test_sixteen_bits_are_scaled_to_eight() -> None:
    """Of 16 bits the upper eight are kept: the darkest is 0, the brightest 255, and nothing is clipped."""
    values = [0, 255, 256, 32768, 65535]
    gray = png(5, 1, 16, 0, b"\0" + struct.pack(">5H", *values))
    assert array_of(gray, PNG).ravel().tolist() == [0, 0, 1, 128, 255]
    colour = png(5, 1, 16, 2, b"\0" + b"".join(struct.pack(">3H", value, value, value) for value in values))
    assert array_of(colour, PNG)[0, :, 1].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_modes_have_their_channels(mode: str, channels: int, progressive: bool) -> None:
    """Gray has one channel, and all else is RGB."""
    image = Image.new("RGB", (20, 10), (200, 100, 50)).convert(mode)
    array = array_of(saved(image, "jpeg", progressive=progressive), JPEG)
    assert array.shape == (10, 20, channels)
    if channels == 3:
        assert np.abs(array.astype(int) - [200, 100, 50]).max() <= 3


def test_orientation_is_not_applied() -> None:
    """The array is what is stored, whatever EXIF says of how to hold it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    body = saved(Image.new("RGB", (20, 10)), "jpeg", exif=exif)
    assert array_of(body, JPEG).shape == (10, 20, 3)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    """An animated PNG decodes to its first frame."""
    first, second = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")
    array = array_of(saved(first, "png", save_all=True, append_images=[second]), PNG)
    assert array.shape == (3, 4, 3)
    assert array[0, 0].tolist() == [255, 0, 0]


def test_large_images_are_decoded() -> None:
    """An image of many strips, and of more than 25 MB, is put together as it was."""
    image = np.random.default_rng(1).integers(0, 256, (3001, 3000, 3), np.uint8)
    body = saved(Image.fromarray(image), "png", compress_level=1)
    assert len(body) > 25_000_000
    assert np.array_equal(array_of(body, PNG), image)
    body = saved(Image.fromarray(image), "jpeg", quality=100, subsampling=0)
    assert array_of(body, JPEG).shape == image.shape


@pytest.mark.parametrize(("name", "content_type"), [("jpeg", PNG), ("png", JPEG), ("gif", PNG), ("bmp", JPEG)])
def test_only_the_format_that_is_named_is_opened(name: str, content_type: str) -> None:
    """A body is read as what its content type says, and never as something else that Pillow knows."""
    assert "cannot be read as" in refusal(saved(Image.new("RGB", (4, 3)), name), content_type)


@pytest.mark.parametrize(("name", "content_type"), [("png", PNG), ("jpeg", JPEG)])
def test_truncated_images_are_400(name: str, content_type: str) -> None:
    """An image that is cut short anywhere is the client's mistake."""
    body = saved(Image.fromarray(pixels(30, 30, 3)), name)
    for end in range(0, len(body) - 20, 7):
        refusal(body[:end], content_type)


def test_an_image_with_damaged_exif_warns_nobody() -> None:
    """What Pillow warns of is the client's doing, and goes to no log."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\x7f"
    assert array_of(saved(Image.new("RGB", (4, 3)), "jpeg", exif=exif), JPEG).shape == (3, 4, 3)


def test_too_many_scans_are_400() -> None:
    """Each scan of a progressive JPEG goes over the whole image, so their number is limited."""
    body = saved(Image.new("L", (64, 64)), "jpeg", progressive=True)
    scan = body[body.index(b"\xff\xda") : body.rindex(b"\xff\xd9")]
    assert "more than 100 scans" in refusal(body[:-2] + scan * 101 + b"\xff\xd9", JPEG)


def test_what_looks_like_an_end_hides_no_scans() -> None:
    """The end of an image counts where it is one, and not within a comment, or behind 0xFF that fills in."""
    body = saved(Image.new("L", (64, 64)), "jpeg", progressive=True)
    scan = body[body.index(b"\xff\xda") : body.rindex(b"\xff\xd9")]
    for between in (b"\xff\xfe\0\4\xff\xd9", b"\xff\xff\xfe\0\4\xff\xd9", b"\xff\xd0", b"\xff\0"):
        assert "more than 100 scans" in refusal(body[:-2] + between + scan * 101 + b"\xff\xd9", JPEG)


def test_what_follows_an_image_is_not_looked_at() -> None:
    """Phones put a film of megabytes behind a picture, in which any two bytes occur; so do others with thumbnails."""
    image = pixels(30, 30, 3)
    body = saved(Image.fromarray(image), "jpeg", comment=b"\xff\xda" * 1000)
    film = np.random.default_rng(1).integers(0, 256, 16 << 20, np.uint8).tobytes()
    assert film.count(b"\xff\xda") > 200
    assert np.array_equal(array_of(body + film, JPEG), array_of(body, JPEG))


def test_too_many_segments_between_scans_are_400() -> None:
    """Behind the first scan the number of segments is limited as it is before it."""
    body = saved(Image.new("L", (8, 8)), "jpeg")
    assert "more than 10000 segments" in refusal(body[:-2] + b"\xff\xe5\0\2" * 10_000 + body[-2:], JPEG)


def test_warnings_are_shown_again_after_images_of_several_threads() -> None:
    """A handler may decode in threads: the filters of warnings, which are the process's, are as before afterwards."""
    code = (
        "import sys, threading, warnings\n"
        "import numpy as np\n"
        "from sagemaker_inference_lite.codecs import decode, encode\n"
        "sys.setswitchinterval(1e-6)\n"
        "body = encode(np.zeros((300, 300, 3), np.uint8), 'image/png')[0]\n"
        "decode(body, 'image/png')\n"
        "before = list(warnings.filters)\n"
        "def work():\n"
        "    for _ in range(50):\n"
        "        decode(body, 'image/png')\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "assert warnings.filters == before, warnings.filters\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_too_many_parts_are_400() -> None:
    """Pillow would take half a minute for millions of empty parts, so their number is limited."""
    body = saved(Image.new("L", (8, 8)), "png")
    for part in (chunk(b"abCd", b""), chunk(b"IDAT", b"")):
        assert "more than 100000 chunks" in refusal(body[:33] + part * 100_000 + body[33:], PNG)
    assert array_of(body[:33] + chunk(b"abCd", b"") * 1000 + body[33:], PNG).shape == (8, 8, 1)
    body = saved(Image.new("L", (8, 8)), "jpeg")
    for part in (b"\xff\xe5\0\2", b"\xff\xfe\0\2", b"\xff", b"\xff\xd8", b"\xff\xf0", b"\xff\0"):
        assert "more than 10000 segments" in refusal(body[:20] + part * 10_000 + body[20:], JPEG)
    assert "more than 10000 segments" in refusal(body[:20] + b"\0" * 10_000 + body[20:], JPEG)
    exif = b"\xff\xe1\0\x0aExif\0\0II"
    assert "more than 100 segments of EXIF" in refusal(body[:20] + exif * 101 + body[20:], JPEG)
    assert array_of(body[:20] + b"\xff\xe5\0\2" * 1000 + body[20:], JPEG).shape == (8, 8, 1)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((4, 3)),
        [[1, 2]],
        pixels(3),
        pixels(4, 3, 2),
        pixels(4, 3, 5),
        pixels(1, 4, 3, 3),
        np.zeros((0, 3), np.uint8),
        np.zeros((4, 3), bool),
        "text",
        None,
    ],
)
@pytest.mark.parametrize("content_type", [PNG, JPEG])
def test_what_images_cannot_hold_is_406(value: object, content_type: str) -> None:
    """Anything but uint8 of two dimensions, or three with known channels, is refused, and the message says why."""
    with pytest.raises(NotAcceptableError, match=r"expected uint8 of height x width"):
        encode(value, content_type)


def test_jpeg_has_no_transparency_and_a_largest_side() -> None:
    """JPEG refuses four channels, and sides of more than 65,500 pixels."""
    with pytest.raises(NotAcceptableError, match="x 1 or 3"):
        encode(pixels(4, 3, 4), JPEG)
    with pytest.raises(NotAcceptableError, match="cannot hold the prediction of shape"):
        encode(np.zeros((1, 65501), np.uint8), JPEG)


def test_images_need_not_be_contiguous() -> None:
    """A slice of an array is an image too, and so are two dimensions."""
    image = pixels(8, 6, 3)
    assert np.array_equal(array_of(encode(image[::2, ::-1], PNG)[0], PNG), image[::2, ::-1])
    assert np.array_equal(array_of(encode(image[:, :, 1], PNG)[0], PNG)[:, :, 0], image[:, :, 1])

# SPDX-License-Identifier: Apache-2.0
"""image/png and image/jpeg, by Pillow, which is imported when the first image comes."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sagemaker_inference_lite.codecs.arrays import Array, as_array
from sagemaker_inference_lite.codecs.expansion_limit import ExpansionLimit
from sagemaker_inference_lite.codecs.libraries import imported, reason_of
from sagemaker_inference_lite.content_types import JPEG, PNG, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from PIL.Image import Image

# Each scan of a progressive JPEG goes over the whole image, and needs a few bytes only; cameras and editors write
# about ten.
_MAX_SCANS = 100
_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# What ends a scan: within its data zero follows 0xFF, or a restart, or what libjpeg passes over.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

# Pillow goes through the parts before the pixels in Python and keeps some of them: millions of empty ones would take
# it half a minute and most of a gigabyte. Encoders write a part for each few kilobytes, and do not fill in between.
_MAX_CHUNKS = 100_000
_MAX_SEGMENTS = 10_000

# Pillow joins these one by one, in time with the square of their number. An image has one, its previews one each.
_MAX_EXIF_SEGMENTS = 100
_EXIF = b"Exif\0\0"

# Those after which Pillow looks for the next marker at once: TEM, JPG, RST0 to EOI, and JPG0 to JPG13 (ITU T.81, B.1).
_MARKERS_ALONE = frozenset((0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))

# Python has one list of warnings' filters for all threads.
_silence = threading.Lock()

# The array is made of strips: Pillow keeps an image as something else than an array, and a third copy of all of it
# would be the largest. So many pixels are a few megabytes.
_STRIP_PIXELS = 1 << 20


def decode_png(body: bytes, media_type: MediaType) -> Array:
    """Decodes image/png into an array of height x width x channels, uint8.

    Grayscale has one channel, RGB three; with transparency in each pixel or in the palette it is RGBA, four (gray
    too); palettes become RGB. A single colour that is declared transparent stays what it is. Of 16 bits the upper
    eight are kept; one bit becomes 0 and 255. Of an animation the first frame is taken. EXIF's orientation is not
    applied: the array is what is stored.

    Returns:
        An array of its own memory.

    Raises:
        UnsupportedMediaTypeError: Pillow cannot be imported.
        ClientError: 400. The body is no such image, or is damaged or cut short, or has more than 100,000 chunks.
        ClientError: 413. It is larger than a body may expand to, at a byte a pixel of gray and four of any other.
    """
    _check_chunks(body)
    return _decode(body, "PNG", imported("PIL.PngImagePlugin", UnsupportedMediaTypeError).PngImageFile)


def decode_jpeg(body: bytes, media_type: MediaType) -> Array:
    """Decodes image/jpeg into an array of height x width x channels, uint8.

    Grayscale has one channel; all else, CMYK among it, is RGB, three. EXIF's orientation is not applied: the array
    is what is stored.

    Returns:
        An array of its own memory.

    Raises:
        UnsupportedMediaTypeError: Pillow cannot be imported.
        ClientError: 400. The body is no such image, is damaged or cut short, or has more than 100 scans
            or 10,000 segments.
        ClientError: 413. It is larger than a body may expand to, at a byte a pixel of gray and four of any other; at
            two bytes for each sample where it is progressive.
    """
    if not body.startswith(_START_OF_IMAGE):
        raise ClientError(400, "The body cannot be read as JPEG: it does not begin as one.")
    if body.count(_EXIF) > _MAX_EXIF_SEGMENTS:
        raise ClientError(400, f"The JPEG has more than {_MAX_EXIF_SEGMENTS} segments of EXIF data; expected one.")
    _check_scans(body, _first_scan(body))
    return _decode(body, "JPEG", imported("PIL.JpegImagePlugin", UnsupportedMediaTypeError).JpegImageFile)


def _check_chunks(body: bytes) -> None:
    place = 8
    for _ in range(_MAX_CHUNKS):
        if place >= len(body):
            return
        place += 12 + int.from_bytes(body[place : place + 4], "big")
    raise ClientError(400, f"The PNG has more than {_MAX_CHUNKS} chunks; expected some thousand at most.")


def _first_scan(body: bytes) -> int:
    """Goes as Pillow does, which also passes over what is no segment, up to the first scan; its place."""
    place = 2
    for _ in range(_MAX_SEGMENTS):
        marker = body[place + 1 : place + 2]
        if not marker or body.startswith(_START_OF_SCAN, place):
            return place
        if body[place] != 0xFF or marker == b"\xff":
            place += 1
        elif marker == b"\0" or marker[0] in _MARKERS_ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(body[place + 2 : place + 4], "big")
    raise _too_many_segments()


def _check_scans(body: bytes, place: int) -> None:
    """Goes as libjpeg does, from the first scan to the image's end; phones put films behind that."""
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(body, place)
        if found is None or found[0] == _END_OF_IMAGE:
            return
        scans += found[0] == _START_OF_SCAN
        if scans > _MAX_SCANS:
            raise ClientError(400, f"The JPEG has more than {_MAX_SCANS} scans; expected some ten at most.")
        place = found.end() + int.from_bytes(body[found.end() : found.end() + 2], "big")
    raise _too_many_segments()


def _too_many_segments() -> ClientError:
    return ClientError(
        400, f"The JPEG has more than {_MAX_SEGMENTS} segments, or filling; expected some hundred at most."
    )


class _Form(NamedTuple):
    """How the pixels of one of Pillow's modes come into an array.

    Attributes:
        mode: The mode that they are converted to; None where they are numbers of 16 bits.
        channels: How many channels the array has.
    """

    mode: str | None
    channels: int


_FORMS = {
    "1": _Form("L", 1),
    "L": _Form("L", 1),
    "LA": _Form("RGBA", 4),
    "RGB": _Form("RGB", 3),
    "RGBA": _Form("RGBA", 4),
    "CMYK": _Form("RGB", 3),
    # Which of these a PNG of 16 bits is has changed from one release of Pillow to another.
    "I": _Form(None, 1),
    "I;16": _Form(None, 1),
    "I;16B": _Form(None, 1),
}


def _decode(body: bytes, name: str, open_image: Callable[[io.BytesIO], Image]) -> Array:
    # Image.open() would judge the size by a limit of its own, which is the process's. What Pillow warns of (damaged
    # EXIF data, say) is a client's mistake and none that anyone here can mend.
    try:
        with _silence, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = open_image(io.BytesIO(body))
            form = _form(image)
            _check_size(image, form, len(body))
            return _pixels(image, form)
    except (ClientError, MemoryError):
        raise
    # Pillow lets out what its parsers raise: SyntaxError, OSError, ValueError, struct.error, zlib.error and others.
    except Exception as error:
        raise ClientError(400, f"The body cannot be read as {name}: {reason_of(error)}.") from error


def _form(image: Image) -> _Form:
    if image.mode in ("P", "PA"):
        return _FORMS["RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"]
    if image.mode not in _FORMS:
        raise ValueError(f"its mode {image.mode} is not known")
    return _FORMS[image.mode]


def _check_size(image: Image, form: _Form, length: int) -> None:
    # In Pillow's memory all but gray has four bytes a pixel.
    bytes_per_pixel = 1 if form.mode == "L" else 4
    if "progressive" in image.info:
        # All of its coefficients are kept until the last scan is read: two bytes for each.
        bytes_per_pixel = max(bytes_per_pixel, 2 * len(image.getbands()))
    ExpansionLimit(length).take(
        image.width * image.height * bytes_per_pixel, f"The image of {image.width} x {image.height} pixels"
    )


def _pixels(image: Image, form: _Form) -> Array:
    image.load()
    pixels = np.empty((image.height, image.width, form.channels), np.uint8)
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        rows = pixels[top : top + height]
        strip = image.crop((0, top, image.width, top + len(rows)))
        rows[:] = _strip(strip, form).reshape(rows.shape)
    return pixels


def _strip(strip: Image, form: _Form) -> Array:
    if form.mode is None:
        upper: Array = np.asarray(strip) >> 8
        return upper.astype(np.uint8)
    return np.asarray(strip if strip.mode == form.mode else strip.convert(form.mode))


def encode_png(value: object) -> bytes:
    """Encodes as image/png: an array of uint8, of height x width, or of height x width x 1, 3 (RGB) or 4 (RGBA).

    Raises:
        NotAcceptableError: value is anything else; the message says what it is.
    """
    return _encode(value, PNG, (1, 3, 4))


def encode_jpeg(value: object) -> bytes:
    """Encodes as image/jpeg: an array of uint8, of height x width, or of height x width x 1 or 3 (RGB).

    JPEG loses detail; the quality is Pillow's own choice (75 of 95).

    Raises:
        NotAcceptableError: value is anything else, or more than 65,500 pixels high or wide.
    """
    return _encode(value, JPEG, (1, 3))


def _encode(value: object, content_type: str, channels: tuple[int, ...]) -> bytes:
    image = imported("PIL.Image", NotAcceptableError)
    array = _image_array(as_array(value, content_type), content_type, channels)
    stream = io.BytesIO()
    try:
        image.fromarray(array).save(stream, content_type.partition("/")[2])
    except (OSError, ValueError) as error:
        raise NotAcceptableError(
            f"{content_type} cannot hold the prediction of shape {array.shape}: {reason_of(error)}."
        ) from error
    return stream.getvalue()


def _image_array(array: Array, content_type: str, channels: tuple[int, ...]) -> Any:
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in channels)
    if array.dtype != np.uint8 or not is_image or not array.size:
        known = " or ".join(map(str, channels))
        raise NotAcceptableError(
            f"{content_type} cannot hold the prediction of shape {array.shape} and type {array.dtype}; "
            f"expected uint8 of height x width, or of height x width x {known}."
        )
    return np.ascontiguousarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)

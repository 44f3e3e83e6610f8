# SPDX-License-Identifier: Apache-2.0
"""The file of a Java runtime's modules, and how to compress what is in it.

The format is the JDK's own; src/java.base/share/native/libjimage/imageFile.hpp describes it at its head. A header; two
tables by which the hash of a name leads to its location; the locations, each a list of attributes; the strings that
attributes name; the resources, end to end. A resource that is compressed begins with a header of its own. Beside
classes there are directories, whose content is the locations of what is in them.
"""

from __future__ import annotations

import struct
import zlib

MAGIC, VERSION = 0xCAFEDADA, 1 << 16  # 1.0
HEADER = struct.Struct("<7I")  # magic, version, flags, resources, entries of a table, bytes of locations, of strings

COMPRESSED_MAGIC = 0xCAFEFAFA
COMPRESSED_HEADER = struct.Struct("<IQQIIB")  # magic, size, size before, places of a name and of its options, 1: last

# Kinds of attributes.
END, MODULE, BASE, OFFSET, COMPRESSED, UNCOMPRESSED = 0, 1, 3, 5, 6, 7


class FormatError(Exception):
    """The file is of another format than the one that is known here."""


class Modules:
    """A file of Java's modules, to be read.

    Raises:
        FormatError: It is not version 1.0 of the format, with the byte order of x86-64 and arm64.
    """

    def __init__(self, image: bytes) -> None:
        magic, version, *numbers = HEADER.unpack_from(image)
        if (magic, version) != (MAGIC, VERSION):
            raise FormatError(f"the file of Java's modules begins with {magic:#x} {version:#x}")
        self.flags, self.count, entries, locations, strings = numbers
        offsets_at = HEADER.size + 4 * entries
        self._image = image
        self._locations_at = offsets_at + 4 * entries
        strings_at = self._locations_at + locations
        self._resources_at = strings_at + strings
        self.redirects = image[HEADER.size : offsets_at]
        self.strings = image[strings_at : self._resources_at]
        self.offsets = [offset for (offset,) in struct.iter_unpack("<I", image[offsets_at : self._locations_at])]

    def attributes(self, offset: int) -> dict[int, int]:
        """A location: each attribute is a byte with its kind and its length less one, and then its value."""
        found, at = {}, self._locations_at + offset
        while self._image[at] >> 3 != END:
            end = at + 2 + (self._image[at] & 7)
            found[self._image[at] >> 3] = int.from_bytes(self._image[at + 1 : end], "big")
            at = end
        return found

    def content(self, attributes: dict[int, int]) -> bytes:
        """A resource, compressed or not, as it is in the file."""
        begin = self._resources_at + attributes.get(OFFSET, 0)
        return self._image[begin : begin + (attributes.get(COMPRESSED) or attributes[UNCOMPRESSED])]

    def string(self, offset: int) -> bytes:
        """One of the strings."""
        return self.strings[offset : self.strings.index(b"\0", offset)]

    def holds_locations(self, attributes: dict[int, int]) -> bool:
        """Whether a resource is one of the directories that list locations: /packages, /modules and all in that."""
        module = self.string(attributes.get(MODULE, 0))
        return module == b"modules" or (
            not module and self.string(attributes.get(BASE, 0)) in (b"/modules", b"/packages")
        )


def compress(image: bytes) -> bytes:
    """A file of Java's modules with the classes compressed; FormatError where the file is not known."""
    modules = Modules(image)
    resources, locations = bytearray(), bytearray([END << 3])
    moved: dict[int, int] = {0: 0}
    directories: list[tuple[int, bytes]] = []
    for old in modules.offsets:
        attributes = modules.attributes(old)
        if UNCOMPRESSED not in attributes:
            continue
        content = modules.content(attributes)
        if modules.holds_locations(attributes):
            directories.append((len(resources), content))
        elif not attributes.get(COMPRESSED):
            content = pack(content, attributes, len(modules.strings))
        attributes[OFFSET] = len(resources)
        moved[old] = len(locations)
        resources += content
        locations += encode(attributes)
    for at, content in directories:
        numbers = [moved[old] for (old,) in struct.iter_unpack("<I", content)]
        struct.pack_into(f"<{len(numbers)}I", resources, at, *numbers)
    strings = modules.strings + b"zip\0"
    offsets = [moved[old] for old in modules.offsets]
    sizes = (modules.count, len(offsets), len(locations), len(strings))
    header = HEADER.pack(MAGIC, VERSION, modules.flags, *sizes)
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    return b"".join([header, modules.redirects, table, locations, strings, resources])


def pack(content: bytes, attributes: dict[int, int], zip_name: int) -> bytes:
    """A resource compressed, which its attributes then say; as it is, where it would not be smaller."""
    packed = zlib.compress(content, 9)
    packed = COMPRESSED_HEADER.pack(COMPRESSED_MAGIC, len(packed), len(content), zip_name, 0, 1) + packed
    if len(packed) >= len(content):
        return content
    attributes[COMPRESSED] = len(packed)
    return packed


def encode(attributes: dict[int, int]) -> bytes:
    """A location of its attributes."""
    encoded = bytearray()
    for kind, value in attributes.items():
        size = max(1, (value.bit_length() + 7) // 8)
        encoded += bytes([kind << 3 | size - 1]) + value.to_bytes(size, "big")
    return bytes(encoded) + bytes([END << 3])

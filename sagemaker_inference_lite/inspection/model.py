# SPDX-License-Identifier: Apache-2.0
"""A model as it is about to be packed: everything about it that would fail where it is served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sagemaker_inference_lite.archives.packing import Contents
from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers.frameworks import kind_of, only_file
from sagemaker_inference_lite.inspection.findings import Finding, Level, worst_first
from sagemaker_inference_lite.inspection.program import Program, inspect_program

_ARCHIVES = (".tar.gz", ".tgz")


def inspect_model(
    source: Path,
    contents: Contents,
    environ: Mapping[str, str],
    *,
    program: str = "inference.py",
    has_handler: bool = False,
    imports: bool = True,
    limit_seconds: float = 60.0,
) -> list[Finding]:
    """What would go wrong with a model, the worst first.

    Args:
        source: Its directory, or its one file.
        contents: What it would be packed as.
        environ: Of the process in which its program is imported.
        program: Its program's name.
        has_handler: It is served by a handler service of the image's, which may load whatever it likes.
        imports: Whether to import its program, which runs its code.
        limit_seconds: The longest that this may take.
    """
    found = [Finding(Level.ERROR, problem) for problem in contents.problems]
    found += [
        Finding(Level.WARNING, f"{entry.path} is empty.")
        for entry in contents.entries
        if not entry.is_directory and entry.size == 0 and entry.path.name != "__init__.py" and not contents.problems
    ]
    if source.is_dir():
        found += _directory(source, contents, environ, program, has_handler, imports, limit_seconds)
    elif not has_handler and kind_of(source) is None:
        found.append(
            Finding(
                Level.ERROR,
                f"{source} is not a model file that can be served without code.",
                "Put it into a directory with code/inference.py, and pack that.",
            )
        )
    return worst_first(found)


def _directory(
    source: Path,
    contents: Contents,
    environ: Mapping[str, str],
    program: str,
    has_handler: bool,
    imports: bool,
    limit_seconds: float,
) -> list[Finding]:
    found = [
        Finding(
            Level.ERROR,
            f"{entry.path} is an archive within the archive, which nothing unpacks.",
            "Unpack it here, or move it away.",
        )
        for entry in contents.entries
        if entry.name.endswith(_ARCHIVES) and "/" not in entry.name
    ]
    if not contents.entries:
        return [*found, Finding(Level.ERROR, f"{source} holds nothing to pack.")]
    looked_at = inspect_program(source, environ, program, limit_seconds) if imports else _parsed(source, program)
    found += _of_program(looked_at)
    is_unknown = looked_at.is_there and not imports
    if not (has_handler or looked_at.error or "model_fn" in looked_at.functions or is_unknown):
        found += _of_file(source)
    return found


def _of_program(program: Program) -> list[Finding]:
    if not program.error:
        return []
    if program.is_missing_package:
        return [Finding(Level.WARNING, program.error, "Nothing is wrong where the image has it.")]
    return [Finding(Level.ERROR, program.error)]


def _of_file(source: Path) -> list[Finding]:
    try:
        only_file(source, "code/inference.py defines no model_fn")
    except ModelError as error:
        return [
            Finding(
                Level.ERROR, str(error), "Where the image has a handler service of its own, say --handler and its name."
            )
        ]
    return []


def _parsed(source: Path, program: str) -> Program:
    """A program that is not imported: whether its text is Python's."""
    from sagemaker_inference_lite.handlers.inference_script import program_path

    path = Path(program_path(str(source), program))
    if not path.is_file():
        return Program(path, False)
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return Program(path, True, error=f"{path} cannot be imported: {type(error).__name__}: {error}")
    return Program(path, True)

# SPDX-License-Identifier: Apache-2.0
"""``pack``: a model as SageMaker wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import click

from sagemaker_inference_lite.archives import packing
from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.errors import ArchiveError

# What takes a moment is packed without a bar.
_SHOWN_FROM_BYTES = 50_000_000
_MOST_LISTED = 20


@click.command(short_help="Pack a model as model.tar.gz, once it is fit to be served.")
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="DIRECTORY|FILE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The archive.  [default: model.tar.gz]")
@click.option("--handler", help="The image's own handler service, which loads what it likes.")
@click.option("--program", default="inference.py", show_default=True, help="SAGEMAKER_PROGRAM, where that is set.")
@click.option("--import/--no-import", "imports", default=True, help="Import the program, to see its functions.")
@click.option("--import-timeout", type=click.FloatRange(min=0.1), default=60, show_default=True, help="Seconds.")
@click.option("--level", type=click.IntRange(0, 9), default=6, show_default=True, help="How hard to compress.")
@click.option("--force", is_flag=True, help="Replace the archive where there is one.")
@click.option("--dry-run", is_flag=True, help="Show what would be packed, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print an object, for programs.")
@click.pass_obj
def command(
    environ: Mapping[str, str],
    source: Path,
    output: Path | None,
    handler: str | None,
    program: str,
    imports: bool,
    import_timeout: float,
    level: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Pack a model as model.tar.gz, once it is fit to be served.

    A file stands at the top of the archive; of a directory all that is in it does. What will not work is refused, all
    of it at once: a program that cannot be imported, functions with wrong parameters, links, no model at all. Caches,
    repositories and virtual environments stay out. Equal files give equal bytes; SOURCE_DATE_EPOCH is heeded.

    \b
    Examples:
      sagemaker-inference-lite pack model/ -o model.tar.gz
      sagemaker-inference-lite pack wine.joblib

    \b
    Exit status: 0 when it is packed, 1 when it is not fit to be, 2 for options and paths that cannot be used.
    """
    from sagemaker_inference_lite.inspection.findings import Level
    from sagemaker_inference_lite.inspection.model import inspect_model

    target = _target(source, output, force or dry_run)
    contents = packing.contents_of(source)
    findings = inspect_model(
        source,
        contents,
        environ,
        program=program,
        has_handler=bool(handler),
        imports=imports,
        limit_seconds=import_timeout,
    )
    is_fit = all(each.level is not Level.ERROR for each in findings)
    size = None
    if is_fit and not dry_run:
        with _progress(contents.size) as progress:
            size = packing.pack(contents.entries, target, level, _timestamp(environ), progress)
    if as_json:
        click.echo(json.dumps(_described(target, contents, findings, size), indent=2))
    else:
        for finding in findings:
            (terminal.error if finding.level is Level.ERROR else terminal.warning)(finding.what)
            if finding.mend:
                terminal.hint(finding.mend)
        _show(contents)
        if size is not None:
            click.echo(f"{target}: {_bytes(size)}, of {_bytes(contents.size)}")
        elif not is_fit:
            terminal.error(f"{source} is not packed.")
    return 0 if is_fit else 1


def _target(source: Path, output: Path | None, may_replace: bool) -> Path:
    target = output if output is not None else Path("model.tar.gz")
    if target.is_dir():
        raise click.UsageError(f"{target} is a directory; --output names the archive itself.")
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise click.UsageError(f"{target} lies in {source}, and would be packed into itself: choose another --output.")
    if source.resolve() == target.resolve():
        raise click.UsageError(f"{target} is what is to be packed: choose another --output.")
    if target.exists() and not may_replace:
        raise click.UsageError(f"{target} is there already: choose another --output, or replace it with --force.")
    return target


def _timestamp(environ: Mapping[str, str]) -> int:
    text = environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return packing.EPOCH
    if not text.isdecimal():
        raise ArchiveError(f"SOURCE_DATE_EPOCH={text!r}: expected seconds since 1970.")
    return int(text)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar at a terminal, where it takes long enough for one."""
    import sys

    if total < _SHOWN_FROM_BYTES or not terminal.is_terminal(sys.stderr):
        yield lambda size: None
        return
    rich: Any = terminal.library("rich.progress", "pack")
    columns = (*rich.Progress.get_default_columns(), rich.DownloadColumn(), rich.TransferSpeedColumn())
    with rich.Progress(*columns, console=terminal.console("pack", stderr=True), transient=True) as progress:
        task = progress.add_task("packing", total=total)
        yield lambda size: progress.update(task, completed=size)


def _show(contents: packing.Contents) -> None:
    files = sorted((each for each in contents.entries if not each.is_directory), key=lambda each: -each.size)
    width = max((len(_bytes(each.size)) for each in files), default=0)
    for each in files[:_MOST_LISTED]:
        click.echo(f"  {_bytes(each.size).rjust(width)}  {each.name}")
    if len(files) > _MOST_LISTED:
        rest = files[_MOST_LISTED:]
        click.echo(f"  {_bytes(sum(each.size for each in rest)).rjust(width)}  in {len(rest)} more")
    if contents.left_out:
        more = ", ..." if len(contents.left_out) > _MOST_LISTED else ""
        click.echo(f"left out: {', '.join(contents.left_out[:_MOST_LISTED])}{more}")


def _described(target: Path, contents: packing.Contents, findings: list[Any], size: int | None) -> dict[str, Any]:
    return {
        "archive": str(target) if size is not None else None,
        "bytes": size,
        "files": [{"name": each.name, "bytes": each.size} for each in contents.entries if not each.is_directory],
        "left_out": list(contents.left_out),
        "findings": [{"level": each.level.value, "what": each.what, "mend": each.mend} for each in findings],
    }


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"

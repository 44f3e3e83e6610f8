# SPDX-License-Identifier: Apache-2.0
"""``doctor``: what may keep a server from working."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.errors import ArchiveError

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "red")}


@click.command(short_help="Say what may keep a server from working, and the mend.")
@click.argument("target", required=False, metavar="[PATH|IMAGE]")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, for programs.")
@click.pass_obj
def command(environ: Mapping[str, str], target: str | None, as_json: bool) -> int:
    """Say what may keep a server from working, and the mend.

    Without an argument it looks at this machine, or this container: Python, Java, the port, places to write to, limits,
    the settings in force, the model, the handler. With one it looks at a model (file, directory, archive), a Dockerfile
    or a directory with one, or an image of the Docker engine.

    \b
    Examples:
      sagemaker-inference-lite doctor
      docker run --rm my-models sagemaker-inference-lite doctor
      sagemaker-inference-lite doctor my-endpoint/

    \b
    Exit status: 0 where there is no error, 1 where there is one, 2 for options that cannot be used.
    """
    findings = _machine(environ) if target is None else _target(Path(target), target, environ)
    if as_json:
        rows = [{"level": each.level.value, "what": each.what, "mend": each.mend} for each in findings]
        click.echo(json.dumps(rows, indent=2))
    else:
        for each in findings:
            mark, colour = _MARKS[each.level.value]
            styled = click.style(mark.ljust(7), fg=colour) if terminal.is_coloured(sys.stdout) else mark.ljust(7)
            click.echo(f"{styled}  {each.what}")
            if each.mend:
                click.echo(f"         {each.mend}")
    return 1 if any(each.level.value == "error" for each in findings) else 0


def _machine(environ: Mapping[str, str]) -> Sequence[Any]:
    from sagemaker_inference_lite.doctor.machine import inspect_machine
    from sagemaker_inference_lite.inspection.findings import worst_first

    return worst_first(inspect_machine(environ))


def _target(path: Path, target: str, environ: Mapping[str, str]) -> Sequence[Any]:
    from sagemaker_inference_lite.doctor.dockerfile import inspect_dockerfile
    from sagemaker_inference_lite.doctor.image import inspect_image
    from sagemaker_inference_lite.inspection.findings import worst_first

    if not path.exists():
        return worst_first(inspect_image(terminal.library("docker", "doctor IMAGE"), target))
    if path.name == "Dockerfile" or path.suffix == ".Dockerfile":
        return worst_first(inspect_dockerfile(path))
    if path.is_dir() and (path / "Dockerfile").is_file():
        return worst_first(inspect_dockerfile(path / "Dockerfile"))
    return worst_first(_model(path, environ))


def _model(path: Path, environ: Mapping[str, str]) -> list[Any]:
    import tempfile

    from sagemaker_inference_lite.archives import packing, unpacking
    from sagemaker_inference_lite.inspection.findings import Finding, Level
    from sagemaker_inference_lite.inspection.model import inspect_model

    if path.is_file() and path.name.endswith((".tar.gz", ".tgz", ".tar", ".zip", ".mar")):
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch, "model")
            try:
                unpacking.unpack(path, unpacked)
            except ArchiveError as error:
                return [Finding(Level.ERROR, str(error))]
            return _model(unpacked, environ)
    contents = packing.contents_of(path)
    found = inspect_model(path, contents, environ)
    count = sum(not each.is_directory for each in contents.entries)
    files = f"{count} {'file' if count == 1 else 'files'}, {contents.size / 1e6:,.1f} MB"
    return [*found, Finding(Level.OK, f"{path}: {files}")]

# SPDX-License-Identifier: Apache-2.0
"""``unpack``: a model's archive, unpacked so that it can do no harm."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import click

from sagemaker_inference_lite.archives import unpacking


@click.command(short_help="Unpack a model's archive safely.")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-C",
    "--directory",
    type=click.Path(path_type=Path),
    help="Where to; by default the archive's name without .tar.gz.",
)
@click.option("--force", is_flag=True, help="Unpack into a directory that holds files, over those of the same name.")
@click.option("--json", "as_json", is_flag=True, help="Print an object, for programs.")
def command(archive: Path, directory: Path | None, force: bool, as_json: bool) -> None:
    """Unpack a model's archive (.tar.gz, .tar, .zip, .mar) safely.

    Links, devices and paths that lead out of the directory are refused, as are archives that are damaged, cut short,
    or made to fill a disk. Where anything is refused, nothing is unpacked.

    \b
    Example:
      sagemaker-inference-lite unpack model.tar.gz -C model

    \b
    Exit status: 0 when it is unpacked, 1 when it is not, 2 for options and paths that cannot be used.
    """
    target = directory if directory is not None else _named_after(archive)
    if force and target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
        try:
            found = unpacking.unpack(archive, beside)
            unpacking.merge(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    else:
        found = unpacking.unpack(archive, target)
    if as_json:
        files = [{"name": each.name, "bytes": each.size} for each in found]
        click.echo(json.dumps({"directory": str(target), "files": files}, indent=2))
        return
    for each in found:
        click.echo(target / each.name)


def _named_after(archive: Path) -> Path:
    for suffix in (".tar.gz", ".tgz", ".tar", ".zip", ".mar"):
        if archive.name.endswith(suffix) and archive.name != suffix:
            return Path(archive.name[: -len(suffix)])
    raise click.UsageError(f"{archive} says nothing of a directory by its name: name one with --directory.")

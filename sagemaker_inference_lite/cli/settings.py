# SPDX-License-Identifier: Apache-2.0
"""``settings``: what is in force, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import click

from sagemaker_inference_lite.cli import terminal
from sagemaker_inference_lite.mms import properties
from sagemaker_inference_lite.settings import listing, markdown_table, warnings_for


@click.command(short_help="Show the settings in force and where each comes from.")
@click.option("--explain", is_flag=True, help="Show what each setting means as well.")
@click.option("--markdown", is_flag=True, help="Print the table of the documentation instead.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, for programs.")
@click.pass_obj
def command(environ: Mapping[str, str], explain: bool, markdown: bool, as_json: bool) -> None:
    """Show every setting, the value in force and the variable that set it.

    \b
    Example:
      SAGEMAKER_MODEL_SERVER_WORKERS=2 sagemaker-inference-lite settings --explain
    """
    if explain + markdown + as_json > 1:
        raise click.UsageError("--explain, --markdown and --json exclude each other.")
    if markdown:
        click.echo(markdown_table())
        return
    show(environ, explain, as_json)


def show(environ: Mapping[str, str], explain: bool = False, as_json: bool = False) -> None:
    """Print the settings of an environment.

    Raises:
        SettingsError: Values cannot be used; it names them all.
    """
    for sentence in (*warnings_for(environ), *properties.warnings_for(environ)):
        terminal.warning(sentence)
    properties.read_settings(environ)  # which names the mistakes in variables of MMS's too
    rows = listing(environ, properties.OVERRULED_BY)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
        return
    table = [("VARIABLE", "VALUE", "UNIT", "SET BY"), *((row.name, row.value, row.unit, row.source) for row in rows)]
    meanings = ["", *(row.help for row in rows)] if explain else []
    click.echo(_columns(table, meanings))


def _columns(table: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Lines of text with every column as wide as its widest cell; a note stands indented below its line."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for number, cells in enumerate(table):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
        if number < len(notes) and notes[number]:
            lines.append("    " + notes[number])
    return "\n".join(lines)

# SPDX-License-Identifier: Apache-2.0
"""The sagemaker-inference-lite command. With ``__main__`` the only place that prints.

A command is a function of the parsed arguments and the environment that returns an exit status; `_parser` adds it
under its name. Errors of this library end in one message on stderr and the exit status that they carry.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from sagemaker_inference_lite import __version__, standard_streams
from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.mms import properties
from sagemaker_inference_lite.prepare import prepare
from sagemaker_inference_lite.settings import listing, markdown_table, warnings_for

_STDOUT = 1

Command = Callable[[argparse.Namespace, Mapping[str, str]], int]


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after the program's name; those of this process by default.
        environ: The environment; that of this process by default.

    Returns:
        The exit status: 0, or what the error that ended the command carries.

    Raises:
        SystemExit: The arguments cannot be understood, or ask for help.
    """
    standard_streams.set_up()
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        status = command(arguments, os.environ if environ is None else environ)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except LaunchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sagemaker-inference-lite", description="Serve Python models behind SageMaker endpoints."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_settings(commands)
    _add_prepare(commands)
    return parser


def _add_settings(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "show every setting, the value in force and the variable that set it"
    parser = commands.add_parser("settings", help=about, description=about.capitalize() + ".")
    layout = parser.add_mutually_exclusive_group()
    layout.add_argument("--explain", action="store_true", help="show what each setting means as well")
    layout.add_argument("--markdown", action="store_true", help="print the table of the README instead")
    parser.set_defaults(command=_settings)


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if arguments.markdown:
        print(markdown_table())
        return 0
    for sentence in (*warnings_for(environ), *properties.warnings_for(environ)):
        print(f"warning: {sentence}", file=sys.stderr)
    properties.read_settings(environ)  # which names the mistakes in variables of MMS's too
    rows = listing(environ, properties.OVERRULED_BY)
    table = [("VARIABLE", "VALUE", "UNIT", "SET BY"), *((row.name, row.value, row.unit, row.source) for row in rows)]
    meanings = ["", *(row.help for row in rows)] if arguments.explain else []
    print(_columns(table, meanings))
    return 0


def _add_prepare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "make what lets a server start faster; for the build of an image"
    parser = commands.add_parser(
        "prepare",
        help=about,
        description="Writes into the package's directory an archive of the front end's classes, for the Java that a "
        "server would take, and the front end's native library. A server that finds them is there in about 0.6 of the "
        "time, and needs no temporary directory that it may run code from.",
    )
    parser.set_defaults(command=_prepare)


def _prepare(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    java, library, archive = prepare(environ)
    name = f"Java {java.version} ({java.source})"
    print(f"{library}: unpacked")
    if archive:
        print(f"{archive.path}: {archive.size / 1e6:.0f} MB, for {name}, made in {archive.seconds:.1f} s")
    else:
        print(f"no archive of classes: that takes Java 17, and this is {name}")
    return 0


def _columns(table: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Lines of text with every column as wide as its widest cell; a note stands indented below its line."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for number, cells in enumerate(table):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
        if number < len(notes) and notes[number]:
            lines.append("    " + notes[number])
    return "\n".join(lines)

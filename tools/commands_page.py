# SPDX-License-Identifier: Apache-2.0
"""Prints docs/commands.md: what each command says of itself.

python tools/commands_page.py > docs/commands.md     where the package is installed
"""

from __future__ import annotations

import sys

import click

from sagemaker_inference_lite.cli.program import PROGRAM, program

_WIDTH = 100
_HEAD = f"""# Commands

`{PROGRAM}` is the package's command; `python -m sagemaker_inference_lite` is the same. `--help`
says of each what stands here. Messages go to stderr, results to stdout; colours and progress are for terminals
(`NO_COLOR` switches them off). With `--json` programs can read the result. A command that needs a library which is not
installed says which extra brings it.
"""


def main() -> None:
    """Prints the page."""
    pages = [_HEAD.rstrip()]
    top = click.Context(program, info_name=PROGRAM, max_content_width=_WIDTH, terminal_width=_WIDTH)
    for name in program.list_commands(top):
        command = program.get_command(top, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=top, terminal_width=_WIDTH) as context:
            pages.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```")
    sys.stdout.write("\n\n".join(pages) + "\n")


if __name__ == "__main__":
    main()

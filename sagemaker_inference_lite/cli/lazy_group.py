# SPDX-License-Identifier: Apache-2.0
"""A group of click's whose commands are imported when they are asked for, and which knows what a misspelling meant."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

import click


class LazyGroup(click.Group):
    """Commands by name, in the order in which help lists them; each is ``command`` in a module of its name.

    Args:
        commands_package: The package that holds the modules.
        command_names: The commands' names, which are those of the modules.
    """

    def __init__(self, *args: Any, commands_package: str, command_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package = commands_package
        self._names = tuple(command_names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a person meets them."""
        return list(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        if cmd_name not in self._names:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, and a name that is none is met with the nearest one that is."""
        name = args[0]
        if name not in self._names and not name.startswith("-"):
            near = difflib.get_close_matches(name, self._names, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._names)}."
            ctx.fail(f"There is no command {name!r}; {meant}")
        return super().resolve_command(ctx, args)

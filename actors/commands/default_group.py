"""A group of commands one of which is meant when the first word is not the name of any."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """``node shop:app`` stands for ``node run shop:app``; the group's help has the options of ``run``."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default's name in front, unless there is a command's name or a wish for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The default command's options, then the other commands."""
        default = self.commands[self.default]
        with default.make_context(self.default, [], parent=ctx, resilient_parsing=True) as inner:
            default.format_options(inner, formatter)
        self.format_commands(ctx, formatter)

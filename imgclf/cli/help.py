"""`imgclf help`: show the help of a command."""

from typing import Annotated, Any

import typer

from imgclf.cli.shared import console
from imgclf.core.errors import UsageError


def help_(
    ctx: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]", help="Command to explain, such as train.")] = None,
) -> None:
    """Show the help of a command."""
    top: Any = ctx.parent
    shown, inner = top.command, top
    for name in command or []:
        known = getattr(shown, "commands", {})
        if name not in known:
            raise UsageError(f"{name}: no such command; available: {', '.join(known) or 'none'}")
        shown = known[name]
        inner = type(top)(shown, info_name=name, parent=inner)
    console.data(shown.get_help(inner))

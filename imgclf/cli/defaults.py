"""Defaults of options from the project's config file."""

import dataclasses
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from imgclf.cli import config_file
from imgclf.core.errors import UsageError

EVERYWHERE = ("data", "run", "seed")  # what may stand above all sections of the project's file


@dataclasses.dataclass(frozen=True)
class Defaults:
    """The project's config file, and the error if it is unusable."""

    path: Path | None
    problem: UsageError | None = None


def use_defaults(ctx: typer.Context) -> None:
    """Apply the defaults of the project's config file to the following command.

    An error in the file is stored for `Command.invoke`, because not every command needs the file.
    """
    try:
        path, values = config_file.defaults(Path())
        ctx.obj = Defaults(path)
        if path is not None:
            ctx.default_map = _default_map(ctx, path, values)
    except UsageError as error:
        ctx.obj = Defaults(None, error)


def _default_map(ctx: typer.Context, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the following command, by its name. Raises UsageError for unknown options."""
    group = ctx.command
    if not isinstance(group, TyperGroup):
        raise TypeError("defaults belong to the group of all commands")
    everywhere = {key: value for key, value in values.items() if not isinstance(value, dict)}
    if set(everywhere) - set(EVERYWHERE):
        wrong = min(set(everywhere) - set(EVERYWHERE))
        raise UsageError(
            f"{path}: {wrong}: only {', '.join(EVERYWHERE)} stand above all sections; put it into that of a command"
        )
    of_verb = {key: value for key, value in values.items() if isinstance(value, dict)}
    names = [name for name, command in group.commands.items() if not isinstance(command, TyperGroup)]
    for verb in of_verb:
        if verb not in names:
            raise UsageError(f"{path}: [{verb}] is no command with options; there are {', '.join(sorted(names))}")
    name = ctx.invoked_subcommand or ""
    command = group.commands.get(name)
    if isinstance(command, TyperGroup):  # a group such as runs
        inner = command.commands.items()
        return {name: {verb: _fitting(ctx, path, f"{name} {verb}", everywhere, {}, one) for verb, one in inner}}
    return {name: _fitting(ctx, path, name, everywhere, of_verb.get(name, {}), command)} if command else {}


def _fitting(
    ctx: typer.Context, path: Path, verb: str, everywhere: dict[str, Any], own: dict[str, Any], command: Any
) -> dict[str, Any]:
    """Defaults of one command by parameter: from its own section, and those above all sections that it knows."""
    options, found = options_of(command), {}
    for key, value in {**{key: value for key, value in everywhere.items() if _name(key) in options}, **own}.items():
        option = options.get(_name(key))
        if option is None:
            raise UsageError(f"{path}: [{verb}] {key}: no such option; available: {', '.join(sorted(options))}")
        found[option.name] = _checked(path, verb, key, value, option, ctx)
    return found


def _name(key: str) -> str:
    return key.replace("_", "-")


def options_of(command: Any) -> dict[str, Any]:
    """A command's options and its DATA or RUN argument, by the names that the project's file calls them."""
    found = {}
    for param in command.params:
        if param.param_type_name == "argument" and param.name in ("data", "run"):
            found[param.name] = param
        for flag in (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else ():
            if flag.startswith("--") and not param.is_eager and flag not in ("--undo", "--help"):
                found[flag[2:]] = param
    return found


def _checked(path: Path, verb: str, key: str, value: Any, option: Any, ctx: typer.Context) -> Any:
    """The value as the option takes it; `no-flip = true` is `flip = false`."""
    if f"--{_name(key)}" in option.secondary_opts:
        value = not value if isinstance(value, bool) else value
    if option.is_flag if hasattr(option, "is_flag") else False:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: [{verb}] {key} = {value!r}: give true or false")
    elif isinstance(value, bool | dict) or (isinstance(value, list) and not option.multiple):
        raise UsageError(f"{path}: [{verb}] {key} = {value!r}: not a value that --{_name(key)} could take")
    try:
        cast = option.type_cast_value(ctx, value)
        if isinstance(value, float) and isinstance(cast, int) and cast != value:
            raise ValueError("give a whole number")
    except Exception as error:  # a usage error of the vendored Click, whose classes are not to be imported
        raise UsageError(f"{path}: [{verb}] {key} = {value!r}: {getattr(error, 'message', error)}") from None
    return value

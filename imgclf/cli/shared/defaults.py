"""Defaults of options from the project's config file."""

import dataclasses
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from imgclf.cli.shared import config_file
from imgclf.core.errors import UsageError

TOP_LEVEL = ("data", "run", "seed")  # keys that may stand above all sections of the config file


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
    """Return the defaults of the command to run, by its name. Raises UsageError for unknown options."""
    group = ctx.command
    if not isinstance(group, TyperGroup):
        raise TypeError("expected the group of all commands")
    top_level = {key: value for key, value in values.items() if not isinstance(value, dict)}
    if set(top_level) - set(TOP_LEVEL):
        wrong = min(set(top_level) - set(TOP_LEVEL))
        raise UsageError(
            f"{path}: {wrong}: only {', '.join(TOP_LEVEL)} may stand above all sections; move it into the section of a command"
        )
    by_verb = {key: value for key, value in values.items() if isinstance(value, dict)}
    names = [name for name, command in group.commands.items() if not isinstance(command, TyperGroup)]
    for verb in by_verb:
        if verb not in names:
            raise UsageError(f"{path}: [{verb}] is not a command with options; available: {', '.join(sorted(names))}")
    name = ctx.invoked_subcommand or ""
    command = group.commands.get(name)
    if isinstance(command, TyperGroup):  # a group such as runs
        inner = command.commands.items()
        return {name: {verb: _command_defaults(ctx, path, f"{name} {verb}", top_level, {}, sub) for verb, sub in inner}}
    return {name: _command_defaults(ctx, path, name, top_level, by_verb.get(name, {}), command)} if command else {}


def _command_defaults(
    ctx: typer.Context, path: Path, verb: str, top_level: dict[str, Any], section: dict[str, Any], command: Any
) -> dict[str, Any]:
    """Return the defaults of one command by parameter: from its section, and from the top-level keys that it has."""
    options, defaults = options_of(command), {}
    for key, value in {**{key: value for key, value in top_level.items() if _name(key) in options}, **section}.items():
        option = options.get(_name(key))
        if option is None:
            raise UsageError(f"{path}: [{verb}] {key}: no such option; available: {', '.join(sorted(options))}")
        defaults[option.name] = _checked(path, verb, key, value, option, ctx)
    return defaults


def _name(key: str) -> str:
    return key.replace("_", "-")


def options_of(command: Any) -> dict[str, Any]:
    """Return a command's options and its DATA or RUN argument, by their names in the config file."""
    options = {}
    for param in command.params:
        if param.param_type_name == "argument" and param.name in ("data", "run"):
            options[param.name] = param
        for flag in (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else ():
            if flag.startswith("--") and not param.is_eager and flag not in ("--undo", "--help"):
                options[flag[2:]] = param
    return options


def _checked(path: Path, verb: str, key: str, value: Any, option: Any, ctx: typer.Context) -> Any:
    """Return a value in the form that the option takes; `no-flip = true` becomes `flip = false`."""
    if f"--{_name(key)}" in option.secondary_opts:
        value = not value if isinstance(value, bool) else value
    if option.is_flag if hasattr(option, "is_flag") else False:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: [{verb}] {key} = {value!r}: give true or false")
    elif isinstance(value, bool | dict) or (isinstance(value, list) and not option.multiple):
        raise UsageError(f"{path}: [{verb}] {key} = {value!r}: not a valid value of --{_name(key)}")
    try:
        cast = option.type_cast_value(ctx, value)
        if isinstance(value, float) and isinstance(cast, int) and cast != value:
            raise ValueError("give a whole number")
    except Exception as error:  # a usage error of the Click inside Typer, whose classes cannot be imported
        raise UsageError(f"{path}: [{verb}] {key} = {value!r}: {getattr(error, 'message', error)}") from None
    return value

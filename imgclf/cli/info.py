"""`imgclf info`: show everything that a run stores about itself."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from imgclf.cli.shared.console import as_json, out, printable
from imgclf.cli.shared.options import Json, load_run


def info(
    run: Annotated[
        str, typer.Argument(help="Run folder, its name under runs/, `latest` (newest finished run) or `best`.")
    ] = "latest",
    as_json: Json = False,
) -> None:
    """Show the details of a run.

    Print its classes, preprocessing, options, metrics, calibration, data, versions, files and evaluations.
    """
    from imgclf import runs as verb

    print_info(verb.show(load_run(run)), as_json)


def print_info(details: Mapping[str, Any], json: bool) -> None:
    """Print the details of a run, one per line. Nested values have dotted names."""
    if json:
        as_json({"schema": "info/1", **details})
        return

    def lines(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from lines(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and any(isinstance(inner, list | dict) for inner in value):
            yield name, f"{len(value)} entries"
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    shown = list(lines(details, ""))
    width = max(len(name) for name, _value in shown)
    for name, value in shown:
        out.print(printable(f"{name:<{width}}  {value}"), soft_wrap=True)

"""What a person sees of runs, info and schema."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.display.console import add_row, as_json, counted, data, new_table, out, printable, say

if TYPE_CHECKING:
    from imgclf.runs import Run


def runs(found: "Sequence[Run]", folder: Path, json: bool) -> None:
    """A table of runs."""
    if json:
        as_json([{"schema": "runs/1", **dataclasses.asdict(run)} for run in found])
        return
    table = new_table("run", "model", "epochs", "val", "test", "state", numbers=False)
    table.columns[0].no_wrap = True  # to be copied whole
    for run in found:
        figures = ["" if value is None else f"{value:.4f}" for value in (run.val_accuracy, run.test_accuracy)]
        add_row(table, run.name, run.model or "", "" if run.epochs is None else str(run.epochs), *figures, run.state)
    if found:
        out.print(table)
    for run in found:
        if run.problem:
            say(run.problem, style="yellow")
    say(f"{counted(len(found), 'run')} in {folder}" + ("; accuracies of the validation and the test part" if found else ""))


def info(known: Mapping[str, Any], json: bool) -> None:
    """What a run knows, a line each; nested things under their names."""
    if json:
        as_json({"schema": "info/1", **known})
        return

    def lines(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from lines(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and any(isinstance(inner, list | dict) for inner in value):
            yield name, f"{len(value)} entries"
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    shown = list(lines(known, ""))
    width = max(len(name) for name, _value in shown)
    for name, value in shown:
        out.print(printable(f"{name:<{width}}  {value}"), soft_wrap=True)


def schemas(titles: Mapping[str, str]) -> None:
    """A line for each schema."""
    width = max(map(len, titles))
    for name, title in titles.items():
        data(f"{name:<{width}}  {title}")

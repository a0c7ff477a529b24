"""What a person sees of runs, info and schema."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.cli.console import add_row, as_json, counted, data, new_table, out, printable, say

if TYPE_CHECKING:
    from imgclf.runs import Run


def runs(found: "Sequence[Run]", folder: Path, json: bool) -> None:
    """A table of runs."""
    if json:
        as_json([{"schema": "runs/1", **dataclasses.asdict(run)} for run in found])
        return
    table = new_table("run", "model", "val", "test", "baseline", numbers=False)
    table.columns[0].no_wrap = True  # to be copied whole
    poor = []
    for run in found:
        beside = run.test_baseline or run.val_baseline
        if beside is not None and beside.verdict != "better":
            poor.append(run.name)
        add_row(
            table,
            run.name,
            run.model or "",
            run.state if run.state != "finished" else _score(run.val_accuracy, run.val_interval),
            _score(run.test_accuracy, run.test_interval),
            "" if beside is None else f"{beside.accuracy:.2f}",
            style="yellow" if run.name in poor else None,
        )
    if found:
        out.print(table)
    for run in found:
        if run.problem:
            say(run.problem, style="yellow")
    about = "; accuracies on validation and test images with 95% intervals; baseline: always predict the largest class"
    say(f"{counted(len(found), 'run')} in {folder}{about if found else ''}")
    if poor:
        say(
            f"Warning: not significantly better than the baseline: {', '.join(poor)}; "
            f"for details run `imgclf evaluate --run {shlex.quote(poor[0])}`",
            style="yellow",
        )


def _score(accuracy: float | None, interval: tuple[float, float] | None) -> str:
    """The accuracy with its interval, rounded to what a few hundred images support."""
    if accuracy is None or interval is None:
        return ""
    return f"{accuracy:.3f} ({interval[0]:.2f}-{interval[1]:.2f})"


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

"""Options that several commands shard, and what is refused of options that do not go together."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgclf.cli import console
from imgclf.cli.console import as_json, counted, say
from imgclf.core.config import TrainConfig
from imgclf.core.errors import UsageError
from imgclf.core.fields import bounds
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.models.bundle import Bundle

Data = Annotated[
    Path, typer.Argument(help="Folder with one folder of images per class, or with train/val/test folders of such.")
]
Run = Annotated[
    str, typer.Option("--run", metavar="RUN", help="A run folder, its name under runs/, `latest` finished one, or `best`.")
]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Process only shard I of N, on a cluster; see README."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Seed = Annotated[int, typer.Option(**bounds(TrainConfig, "seed"), help="Seed of every random choice.")]


def found(run: str) -> "Bundle":
    """The bundle that --run names. For `best`, print which runs were compared."""
    from imgclf.models import registry

    if run != "best":
        return registry.find(run)
    chosen, note = registry.best(Path("runs"))
    if note:
        console.say(note, style="yellow")
    return chosen


def refuse(*cases: tuple[object, str]) -> None:
    """Raise UsageError with the words of the first case that holds."""
    for holds, words in cases:
        if holds:
            raise UsageError(words)


def print_shard(shard: "Mapping[str, Any]", verb: str, json: bool) -> None:
    """Which files one of several shards inspected, and what comes next."""
    if json:
        as_json({"schema": "shard/1", **shard})
        return
    broken = f", of which {shard['broken']:,} cannot be used" if shard["broken"] else ""
    say(
        f"shard {shard['shard']} of {shard['shards']}: inspected {counted(shard['inspected'], 'file')} of "
        f"{shard['files']:,}{broken}; when all shards are done, "
        f"{command(verb, Path(shard['data']))} takes them up"
    )

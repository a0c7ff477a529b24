"""Options that several commands have, and helpers for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import as_json, counted, say
from imgclf.core.config import TrainConfig
from imgclf.core.errors import UsageError
from imgclf.core.fields import bounds
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.models.bundle import Bundle

Data = Annotated[
    Path, typer.Argument(help="Folder with one folder of images per class, or with train/val/test folders of class folders.")
]
Run = Annotated[
    str,
    typer.Option("--run", metavar="RUN", help="Run folder, its name under runs/, `latest` (newest finished run) or `best`."),
]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Process only shard I of N, on a cluster; see README."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Seed = Annotated[int, typer.Option(**bounds(TrainConfig, "seed"), help="Seed of every random choice.")]


def load_run(run: str) -> "Bundle":
    """Return the bundle that --run names. For `best`, also print which runs were compared."""
    from imgclf.models import registry

    if run != "best":
        return registry.find(run)
    chosen, note = registry.best(Path("runs"))
    if note:
        console.say(note, style="yellow")
    return chosen


def refuse(*cases: tuple[object, str]) -> None:
    """Raise UsageError for the first case that is true. cases: (condition, message)."""
    for condition, message in cases:
        if condition:
            raise UsageError(message)


def print_shard(shard: "Mapping[str, Any]", verb: str, json: bool) -> None:
    """Print how many files a shard inspected, and the command to run after all shards."""
    if json:
        as_json({"schema": "shard/1", **shard})
        return
    broken = f", of which {shard['broken']:,} cannot be used" if shard["broken"] else ""
    say(
        f"shard {shard['shard']} of {shard['shards']}: inspected {counted(shard['inspected'], 'file')} of "
        f"{shard['files']:,}{broken}; when all shards are done, run "
        f"{command(verb, Path(shard['data']))} to use their results"
    )

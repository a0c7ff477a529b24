"""`imgclf audit`: options, call and output."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli import console
from imgclf.cli.console import (
    LONGEST_LIST,
    as_json,
    one_line_each,
    out,
    printable,
    say,
)
from imgclf.cli.options import Data, Json, Seed, ShardOf, print_shard
from imgclf.core.config import AuditConfig, Backbone
from imgclf.core.errors import UsageError
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.audit.results import Audit


def audit(
    data: Data = Path("data"),
    model: Annotated[Backbone, typer.Option(help="The backbone whose features are compared.")] = AuditConfig.model,
    weights: Annotated[
        str, typer.Option(metavar="imagenet|none|FILE", help="Weights of the backbone: ImageNet's, random ones, or a file.")
    ] = AuditConfig.weights,
    image_size: Annotated[
        int | None, typer.Option(help="Side length of the input in pixels.", show_default="the backbone's own, 224")
    ] = AuditConfig.image_size,
    seed: Seed = AuditConfig.seed,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Also write the issues to FILE.csv, for `clean --apply`.")
    ] = None,
    relabel: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Mark label issues with at least this score for relabelling in the report."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page on which to decide on each issue.")
    ] = None,
    shard: ShardOf = None,
    as_json: Json = False,
) -> None:
    """Find likely label errors, outliers and near-duplicates.

    By the features of a pretrained backbone, which are computed once. Every image is judged by a classifier that was not
    trained on it. Nothing is moved: --report and --html give a CSV that `imgclf clean --apply` carries out and can undo.
    """
    from imgclf.audit import auditing as verb
    from imgclf.audit import writing
    from imgclf.data import issue_report
    from imgclf.reports import image_page

    config = AuditConfig(model, weights, image_size, seed)
    writing.check_relabel(relabel)
    if relabel is not None and not (report or html):
        raise UsageError(f"--relabel {relabel:g} needs --report or --html")
    if shard:
        if report or html:
            raise UsageError(
                "--shard only computes features; --report and --html go with the audit that comes after all shares"
            )
        from imgclf.core import shards

        with console.stages() as stage:
            shard_result = verb.compute_shard(data, shards.parse(shard), config, progress=stage)
        print_shard(shard_result, "audit", as_json)
        return
    if report:
        issue_report.check_place(report, data)
    if html:
        image_page.check_place(html, data)
    orders, kept = 0, list[str]()
    with console.stages() as stage:
        result = verb.audit(data, config, progress=stage)
        if report:
            orders, kept = writing.write_report(result, report, relabel)
        if html:
            writing.write_page(result, html, relabel, lambda done, total: stage("drawing", done, total))
    print_audited(result, as_json)
    for note in kept:
        console.say(note)
    if report:
        carry_out = command("clean", data, "--apply", str(report))
        if orders:
            console.say(f"wrote {report} with {console.counted(orders, 'move')}; carry them out with {carry_out}")
        else:
            console.say(f"wrote {report}; write quarantine or relabel into its column action, then run {carry_out}")
    if html:
        console.say(f"wrote {html}")


def print_audited(result: "Audit", json: bool) -> None:
    """The surest issues of each check, and how many there are."""
    if json:
        as_json(result.to_dict())
        return
    for name, found in result.by_check().items():
        if found:
            lines = [(one.path, f"{one.score:.2f}", one.detail + (f": {one.other}" if one.other else "")) for one in found[:10]]
            one_line_each(lines, name, "score", "why")
            if len(found) > 10:
                out.print(f"... and {len(found) - 10:,} more; --report FILE.csv lists all, --html FILE.html shows them")
            out.print()
    counts = ", ".join(f"{name} {len(found):,}" for name, found in result.by_check().items())
    out.print(printable(f"{len(result.images.samples):,} images; issues: {counts}"))
    for path, reason in result.skipped[:LONGEST_LIST]:
        say(f"skipped {path}: {reason}", style="yellow")
    if result.note:
        say(result.note)
    say(
        f"Held-out accuracy with the current labels: {result.accuracy:.4f} (95% interval {result.interval[0]:.3f} to "
        f"{result.interval[1]:.3f}; {result.model}); {result.baseline.words}"
    )
    remedy = "do not rely on the issues; try another --model"
    if text := result.baseline.warning("held-out accuracy", result.accuracy, result.interval, remedy):
        say(text, style="yellow")
    carry_out = command("clean", Path(result.data), "--apply", "FILE.csv")
    say(f"Nothing was moved. To decide, use --html FILE.html, or --report FILE.csv and {carry_out}.")

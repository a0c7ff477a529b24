"""`imgclf audit`: options, call and output."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import (
    MAX_ROWS,
    as_json,
    one_line_each,
    out,
    printable,
    say,
)
from imgclf.cli.shared.options import Data, Json, Seed, ShardOf, print_shard
from imgclf.core.config import AuditConfig, Backbone
from imgclf.core.errors import UsageError
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.audit.results import Audit


def audit(
    data: Data = Path("data"),
    model: Annotated[Backbone, typer.Option(help="Pretrained backbone that computes the features.")] = AuditConfig.model,
    weights: Annotated[
        str,
        typer.Option(
            metavar="imagenet|none|FILE", help="Weights of the backbone: trained on ImageNet, random, or from a file."
        ),
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
        typer.Option(metavar="SCORE", help="In the report, mark label issues with at least this score for relabelling."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page to review and decide on each issue.")
    ] = None,
    shard: ShardOf = None,
    as_json: Json = False,
) -> None:
    """Find likely label errors, outliers and near-duplicates.

    Compute the features of each image with a pretrained backbone and store them. Score each image with a classifier that was
    not trained on it. No file is moved: decide on the issues in the CSV file of --report or on the page of --html, then run
    `imgclf clean --apply`, which can be undone.
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
                "--shard only computes features; give --report and --html to the audit that you run after all shards"
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
    moves, kept = 0, list[str]()
    with console.stages() as stage:
        result = verb.audit(data, config, progress=stage)
        if report:
            moves, kept = writing.write_report(result, report, relabel)
        if html:
            writing.write_page(result, html, relabel, lambda done, total: stage("drawing", done, total))
    print_audited(result, as_json)
    for note in kept:
        console.say(note)
    if report:
        carry_out = command("clean", data, "--apply", str(report))
        if moves:
            console.say(f"wrote {report} with {console.counted(moves, 'move')}; carry them out with {carry_out}")
        else:
            console.say(f"wrote {report}; write quarantine or relabel into its `action` column, then run {carry_out}")
    if html:
        console.say(f"wrote {html}")


def print_audited(result: "Audit", json: bool) -> None:
    """Print the ten issues with the highest scores of each check, and the number of issues."""
    if json:
        as_json(result.to_dict())
        return
    for name, issues in result.by_check().items():
        if issues:
            shown = issues[:10]
            lines = [(i.path, f"{i.score:.2f}", i.detail + (f": {i.other}" if i.other else "")) for i in shown]
            one_line_each(lines, name, "score", "why")
            if len(issues) > 10:
                out.print(f"... and {len(issues) - 10:,} more; --report FILE.csv lists all, --html FILE.html shows them")
            out.print()
    counts = ", ".join(f"{name} {len(issues):,}" for name, issues in result.by_check().items())
    out.print(printable(f"{len(result.images.samples):,} images; issues: {counts}"))
    for path, reason in result.skipped[:MAX_ROWS]:
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
    say(f"No file was moved. To act on the issues, use --html FILE.html, or --report FILE.csv and {carry_out}.")

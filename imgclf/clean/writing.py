"""Write the results of `imgclf clean` as a CSV file and as an HTML page."""

import collections
from collections.abc import Iterator
from pathlib import Path

from imgclf.clean.cleaning import Cleaning
from imgclf.clean.outcomes import Outcome, paths
from imgclf.core import csv_files, report_actions
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output
from imgclf.core.progress import Progress
from imgclf.data import layout
from imgclf.data.checks import CHECKS
from imgclf.reports import image_page

PAGE_LIMIT = 500  # images of each finding on the HTML page
COLUMNS = (
    "path", "label", "check", "score", "action", "new_label", "detail", "other", "moved_to",
    "format", "width", "height", "bytes",
)  # fmt: skip


def check_report(path: Path, data: Path) -> None:
    """Refuse a place for the CSV report before anything is moved: one that cannot be written, or a file that is no report."""
    check_output(path, data, ".csv", ",".join(COLUMNS), "--report")


def write_report(result: Cleaning, path: Path) -> list[str]:
    """One CSV row for each finding, then one for every file without: `--apply` carries out what is edited in it.

    An older report that asks for anything is kept beside the new one. Returns a line that says so.
    """
    notes = report_actions.keep(path)
    atomic.write_lines(path, (csv_files.line(row) for row in (COLUMNS, *_rows(result))))
    return notes


def _rows(result: Cleaning) -> Iterator[tuple[object, ...]]:
    by_path: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in result.outcomes:
        by_path[outcome.path].append(outcome)
    word = "keep" if result.dry_run else "kept"
    for found in (True, False):
        for file, facts in zip(result.files, result.catalogue.facts, strict=True):
            if (file.path in by_path) != found:
                continue
            what = (facts["format"].decode(), int(facts["width"]), int(facts["height"]), int(facts["bytes"]))
            for one in by_path.get(file.path, [Outcome(file.path, "", 0.0, word, "")]):
                yield (one.path, file.label, one.check, one.score, one.action, "", one.detail, one.other, one.moved_to, *what)
    for path, rule in result.ignored:
        yield (path, "", "", 0.0, "ignored", "", rule, "", "", "", 0, 0, 0)


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the HTML report, as `check_report` does."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_page(result: Cleaning, path: Path, progress: Progress | None = None) -> None:
    """A self-contained page: the files of each finding as thumbnails, the worst first, at most PAGE_LIMIT of each."""
    shown = {outcome.path for found in result.by_check().values() for outcome in found[:PAGE_LIMIT]}
    by_path: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in result.outcomes:
        by_path[outcome.path].append(outcome)
    label = {file.path: file.label or "" for file in result.files}
    size = {
        file.path: (int(facts["width"]), int(facts["height"]))
        for file, facts in zip(result.files, result.catalogue.facts, strict=True)
    }
    now = {outcome.path: outcome.moved_to for outcome in result.outcomes if outcome.moved_to and not result.dry_run}
    images = []
    for file, facts in zip(result.files, result.catalogue.facts, strict=True):
        if file.path in shown:
            findings = tuple((one.check, one.score, one.action, one.detail) for one in by_path[file.path])
            other = next((one.other for one in by_path[file.path] if one.other), "")
            images.append(
                image_page.Image(
                    file.path, file.label or "", file.part or "", facts["format"].decode(), *size[file.path], findings,
                    other=other, other_label=label.get(other, ""), other_size=size.get(other, (0, 0)),
                    now=now.get(file.path, ""), other_now=now.get(other, ""),
                )
            )  # fmt: skip
    counts = result.counts()
    yet = "to be " if result.dry_run else ""
    named = (("kept", ""), ("renamed", yet), ("quarantined", yet), ("stuck", ""), ("reported", ""))
    words = ", ".join(f"{counts[name]:,} {before}{name}" for name, before in named if counts[name])
    image_page.write(
        path, result.data, images, title=f"{result.data}: what clean found", group="finding",
        about=f"{len(result.files):,} files: {words}" + (" (dry run: nothing was moved)" if result.dry_run else ""),
        checks={name: (len(paths(found)), CHECKS[name].meaning) for name, found in result.by_check().items()},
        classes=layout.class_folders(result.data), progress=progress,
    )  # fmt: skip

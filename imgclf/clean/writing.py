"""Write the results of `imgclf clean` as a CSV file and as an HTML page."""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from imgclf.clean.cleaning import Cleaning
from imgclf.core.progress import Progress
from imgclf.data import issue_page, issue_report, layout
from imgclf.data.checks import Issue
from imgclf.reports import image_page

PAGE_LIMIT = 500  # images of each issue on the HTML page


def write_report(result: Cleaning, path: Path) -> list[str]:
    """Write one CSV row for each issue, then one for every file without issues. `--apply` carries out the edited rows.

    An older report with requested actions is kept beside the new one. Returns a note about it.
    """
    return issue_report.write(path, _rows(result))


def _rows(result: Cleaning) -> Iterator[issue_report.Row]:
    by_path: dict[str, list[Issue]] = collections.defaultdict(list)
    for issue in result.issues:
        by_path[issue.path].append(issue)
    word = "keep" if result.dry_run else "kept"
    for found in (True, False):
        for file, measured in zip(result.files, result.scanned.measurements, strict=True):
            if (file.path in by_path) != found:
                continue
            what = (measured["format"].decode(), int(measured["width"]), int(measured["height"]), int(measured["bytes"]))
            for one in by_path.get(file.path, [Issue(file.path, "", 0.0, "", label=file.label or "", action=word)]):
                yield issue_report.row(one, measured=what)
    for path, rule in result.ignored:
        yield issue_report.row(Issue(path, "", 0.0, rule, action="ignored"))


def write_page(result: Cleaning, path: Path, progress: Progress | None = None) -> None:
    """Write a self-contained page: thumbnails of the files of each issue, the worst first, at most PAGE_LIMIT for each."""
    shown = {issue.path for found in result.by_check().values() for issue in found[:PAGE_LIMIT]}
    known = issue_page.measured(result.files, result.scanned.measurements)
    if not result.dry_run:
        known |= {
            issue.path: dataclasses.replace(known[issue.path], now=issue.moved_to) for issue in result.issues if issue.moved_to
        }
    paths = [file.path for file in result.files if file.path in shown]
    images = issue_page.with_issues(known, paths, result.issues, lambda issue: issue.action)
    counts = result.counts()
    yet = "to be " if result.dry_run else ""
    named = (("kept", ""), ("renamed", yet), ("quarantined", yet), ("stuck", ""), ("reported", ""))
    words = ", ".join(f"{counts[name]:,} {before}{name}" for name, before in named if counts[name])
    page = image_page.Page(
        title=f"{result.data}: what clean found",
        about=f"{len(result.files):,} files: {words}" + (" (dry run: nothing was moved)" if result.dry_run else ""),
        group="issue",
        checks=issue_page.checks(result.issues),
        classes=layout.class_folders(result.data),
    )
    image_page.write(path, result.data, images, page, progress)

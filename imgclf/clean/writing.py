"""Write the results of `imgclf clean` as a CSV file and as an HTML page."""

import collections
from collections.abc import Iterator
from pathlib import Path

from imgclf.clean.cleaning import Cleaning
from imgclf.clean.done import paths
from imgclf.core.files.state_folder import check_output
from imgclf.core.progress import Progress
from imgclf.data import issue_report, layout
from imgclf.data.checks import CHECKS, Issue
from imgclf.reports import image_page

PAGE_LIMIT = 500  # images of each issue on the HTML page


def write_report(result: Cleaning, path: Path) -> list[str]:
    """One CSV row for each issue, then one for every file without: `--apply` carries out what is edited in it.

    An older report that asks for anything is kept beside the new one. Returns a line that says so.
    """
    return issue_report.write(path, _rows(result))


def _rows(result: Cleaning) -> Iterator[issue_report.Row]:
    by_path: dict[str, list[Issue]] = collections.defaultdict(list)
    for issue in result.issues:
        by_path[issue.path].append(issue)
    word = "keep" if result.dry_run else "kept"
    for found in (True, False):
        for file, facts in zip(result.files, result.catalogue.facts, strict=True):
            if (file.path in by_path) != found:
                continue
            what = (facts["format"].decode(), int(facts["width"]), int(facts["height"]), int(facts["bytes"]))
            for one in by_path.get(file.path, [Issue(file.path, "", 0.0, "", label=file.label or "", action=word)]):
                yield issue_report.row(one, measured=what)
    for path, rule in result.ignored:
        yield issue_report.row(Issue(path, "", 0.0, rule, action="ignored"))


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the HTML report, as `issue_report.check_place` does."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_page(result: Cleaning, path: Path, progress: Progress | None = None) -> None:
    """A self-contained page: the files of each issue as thumbnails, the worst first, at most PAGE_LIMIT of each."""
    shown = {issue.path for found in result.by_check().values() for issue in found[:PAGE_LIMIT]}
    by_path: dict[str, list[Issue]] = collections.defaultdict(list)
    for issue in result.issues:
        by_path[issue.path].append(issue)
    label = {file.path: file.label or "" for file in result.files}
    size = {
        file.path: (int(facts["width"]), int(facts["height"]))
        for file, facts in zip(result.files, result.catalogue.facts, strict=True)
    }
    now = {issue.path: issue.moved_to for issue in result.issues if issue.moved_to and not result.dry_run}
    images = []
    for file, facts in zip(result.files, result.catalogue.facts, strict=True):
        if file.path in shown:
            issues = tuple((one.check, one.score, one.action, one.detail) for one in by_path[file.path])
            other = next((one.other for one in by_path[file.path] if one.other), "")
            images.append(
                image_page.Image(
                    file.path, file.label or "", file.part or "", facts["format"].decode(), *size[file.path], issues,
                    other=other, other_label=label.get(other, ""), other_size=size.get(other, (0, 0)),
                    now=now.get(file.path, ""), other_now=now.get(other, ""),
                )
            )  # fmt: skip
    counts = result.counts()
    yet = "to be " if result.dry_run else ""
    named = (("kept", ""), ("renamed", yet), ("quarantined", yet), ("stuck", ""), ("reported", ""))
    words = ", ".join(f"{counts[name]:,} {before}{name}" for name, before in named if counts[name])
    image_page.write(
        path, result.data, images, title=f"{result.data}: what clean found", group="issue",
        about=f"{len(result.files):,} files: {words}" + (" (dry run: nothing was moved)" if result.dry_run else ""),
        checks={name: (len(paths(found)), CHECKS[name].meaning) for name, found in result.by_check().items()},
        classes=layout.class_folders(result.data), progress=progress,
    )  # fmt: skip

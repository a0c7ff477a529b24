"""Write the results of `imgclf audit` as a CSV file and as an HTML page."""

import dataclasses
from pathlib import Path
from typing import Annotated

from imgclf.audit.results import Audit
from imgclf.core.fields import Within, check
from imgclf.core.progress import Progress
from imgclf.data import issue_page, issue_report, layout
from imgclf.data.checks import Issue
from imgclf.images import header
from imgclf.reports import image_page

PAGE_LIMIT = 1000  # images of each check on the page


def _size(path: Path) -> tuple[int, int]:
    """(width, height), as the header says."""
    head = header.read_header(path)
    return head.width, head.height


def write_report(result: Audit, path: Path, relabel: float | None = None) -> tuple[int, list[str]]:
    """One CSV row an issue for `clean --apply`, which changes nothing until `action` says so.

    relabel: labels at least so surely wrong get the action `relabel` into the likelier class. An older report that asks for
    anything is kept beside the new one. Returns how many lines ask for a move, and what to tell of the older report.
    """
    asked = [_asks(one, relabel) for one in result.issues]
    rows = [
        issue_report.row(dataclasses.replace(one, action="relabel" if is_asked else "keep"), one.suggestion if is_asked else "")
        for one, is_asked in zip(result.issues, asked, strict=True)
    ]
    return sum(asked), issue_report.write(path, rows)


def check_relabel(score: float | None) -> None:
    """Raise UsageError unless this is a valid minimum score for changing labels."""
    check("relabel", score, Annotated[float, Within(0, 1, above=True)] | None)


def _asks(one: Issue, relabel: float | None) -> bool:
    return relabel is not None and one.check == "label" and one.score >= relabel


def write_page(result: Audit, path: Path, relabel: float | None = None, progress: Progress | None = None) -> None:
    """A self-contained page of the issues, the worst first, on which a reader decides and saves a CSV for `clean --apply`.

    relabel: what `write_report` would write is chosen already.
    """
    label = {sample.path: sample.label or "" for sample in result.images.samples}
    data = Path(result.data)
    issues = [one for found in result.by_check().values() for one in found[:PAGE_LIMIT]]
    paths = dict.fromkeys(one.path for one in issues)
    others = {one.other: None for one in issues if one.other}
    known = {name: image_page.Image(name, label[name], "", "", *_size(data / name)) for name in paths | others}

    def action(issue: Issue) -> str:
        return f"relabel,{issue.suggestion}" if _asks(issue, relabel) else "reported"

    page = image_page.Page(
        title=f"{result.data}: what an audit found",
        about=f"{len(result.images.samples):,} images; {result.model}, each judged by a classifier that had not seen it",
        group="issue",
        checks=issue_page.checks(result.issues),
        classes=layout.class_folders(data),
    )
    image_page.write(path, data, issue_page.with_issues(known, paths, issues, action), page, progress)

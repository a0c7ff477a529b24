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
    """Return (width, height) from the header."""
    head = header.read_header(path)
    return head.width, head.height


def write_report(result: Audit, path: Path, relabel: float | None = None) -> tuple[int, list[str]]:
    """Write a CSV report for `clean --apply`, one row per issue. The action of most rows is `keep`, which moves nothing.

    An older report that requests moves is kept under another name.

    Args:
        relabel: Minimum score of a label error to get the action `relabel`, with the more likely class; None for no row.

    Returns:
        The number of rows that request a move, and notes on an older report.
    """
    relabels = [_is_relabelled(one, relabel) for one in result.issues]
    rows = [
        issue_report.row(
            dataclasses.replace(one, action="relabel" if is_relabelled else "keep"), one.suggestion if is_relabelled else ""
        )
        for one, is_relabelled in zip(result.issues, relabels, strict=True)
    ]
    return sum(relabels), issue_report.write(path, rows)


def check_relabel(score: float | None) -> None:
    """Raise UsageError if `score` is not a valid minimum score for --relabel: above 0, at most 1."""
    check("relabel", score, Annotated[float, Within(0, 1, above=True)] | None)


def _is_relabelled(one: Issue, relabel: float | None) -> bool:
    return relabel is not None and one.check == "label" and one.score >= relabel


def write_page(result: Audit, path: Path, relabel: float | None = None, progress: Progress | None = None) -> None:
    """Write a self-contained HTML page of the issues, the worst first.

    The user chooses actions on the page and saves them as a CSV file for `clean --apply`.

    Args:
        relabel: As in `write_report`; the same actions are preselected.
    """
    label = {sample.path: sample.label or "" for sample in result.images.samples}
    data = Path(result.data)
    issues = [one for found in result.by_check().values() for one in found[:PAGE_LIMIT]]
    paths = dict.fromkeys(one.path for one in issues)
    others = {one.other: None for one in issues if one.other}
    known = {name: image_page.Image(name, label[name], "", "", *_size(data / name)) for name in paths | others}

    def action(issue: Issue) -> str:
        return f"relabel,{issue.suggestion}" if _is_relabelled(issue, relabel) else "reported"

    page = image_page.Page(
        title=f"{result.data}: audit",
        about=f"{len(result.images.samples):,} images; {result.model}; each predicted by a classifier not trained on it",
        group="issue",
        checks=issue_page.checks(result.issues),
        classes=layout.class_folders(data),
    )
    image_page.write(path, data, issue_page.with_issues(known, paths, issues, action), page, progress)

"""Write the results of `imgclf audit` as a CSV file and as an HTML page."""

import dataclasses
from pathlib import Path
from typing import Annotated

from imgclf.audit.results import Audit
from imgclf.core.fields import Within, check
from imgclf.core.files.state_folder import check_output
from imgclf.core.progress import Progress
from imgclf.data import issue_report, layout
from imgclf.data.checks import CHECKS, Issue
from imgclf.images import header
from imgclf.reports import image_page

PAGE_LIMIT = 1000  # images of each check on the page


def _size(path: Path) -> tuple[int, int]:
    """(width, height), as the header says."""
    head = header.read_header(path)
    return head.width, head.height


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the HTML page before anything is computed."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_report(result: Audit, path: Path, relabel: float | None = None) -> tuple[int, list[str]]:
    """One CSV row an issue for `clean --apply`, which changes nothing until `action` says so.

    relabel: labels at least so surely wrong get the action `relabel` into the likelier class. An older report that asks for
    anything is kept beside the new one. Returns how many lines ask for a move, and what to tell of the older report.
    """
    rows = []
    for one in result.issues:
        is_asked = _asks(one, relabel)
        asking = dataclasses.replace(one, action="relabel" if is_asked else "keep")
        rows.append(issue_report.row(asking, one.suggestion if is_asked else ""))
    return sum(_asks(one, relabel) for one in result.issues), issue_report.write(path, rows)


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
    data, images = Path(result.data), []
    by_path: dict[str, list[Issue]] = {}
    for found in result.by_check().values():
        for one in found[:PAGE_LIMIT]:
            by_path.setdefault(one.path, []).append(one)
    for name, found in by_path.items():
        other = next((one.other for one in found if one.other), "")
        sizes = [_size(data / file) if file else (0, 0) for file in (name, other)]
        images.append(
            image_page.Image(
                name, label[name], "", "", *sizes[0],
                tuple(
                    (one.check, one.score, f"relabel,{one.suggestion}" if _asks(one, relabel) else "reported", one.detail)
                    for one in found
                ),
                other=other, other_label=label.get(other, ""), other_size=sizes[1],
            )
        )  # fmt: skip
    image_page.write(
        path, data, images, title=f"{result.data}: what an audit found", group="issue",
        about=f"{len(result.images.samples):,} images; {result.model}, each judged by a classifier that had not seen it",
        checks={name: (len(found), CHECKS[name].meaning) for name, found in result.by_check().items() if found},
        classes=layout.class_folders(data), progress=progress,
    )  # fmt: skip

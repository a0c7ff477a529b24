"""`imgclf clean`: look at every file of a data folder, set aside what cannot be used, name what is misnamed, lose nothing."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from imgclf import dataset
from imgclf.base import journal
from imgclf.base.errors import ImageError, ImgclfError
from imgclf.base.folders import is_inside, is_writable, state_folder
from imgclf.base.parallel import ordered_map
from imgclf.pixels import images

Action = Literal["kept", "renamed", "quarantined", "ignored", "stuck"]  # stuck: it should have moved and could not


@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of one file. `reason` is a short code, `detail` says it in words; sizes in pixels, 0 when unknown."""

    path: str
    action: Action
    reason: str = ""
    detail: str = ""
    moved_to: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """One finding for every file under the data folder, sorted by path; `notes` are things to tell the user."""

    data: Path
    dry_run: bool
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[Action, int]:
        """Files by action, every action named."""
        counts: dict[Action, int] = {"kept": 0, "renamed": 0, "quarantined": 0, "ignored": 0, "stuck": 0}
        for finding in self.findings:
            counts[finding.action] += 1
        return counts

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "data": str(self.data),
            "dry_run": self.dry_run,
            "counts": self.counts(),
            "files": [dataclasses.asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
        }


COLUMNS = [field.name for field in dataclasses.fields(Finding)]


def check_report(path: Path, data: Path) -> None:
    """Refuse a place for the report before anything is moved: one that cannot be written, or a file that is no report."""
    if path.suffix.lower() != ".csv":
        raise ImgclfError(f"{path}: a report is written as CSV; give --report a name that ends in .csv")
    if data.resolve() in path.resolve().parents:
        raise ImgclfError(f"{path}: lies inside the data folder {data}; give --report another place")
    if os.path.lexists(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                is_report = file.readline() in ("", ",".join(COLUMNS) + "\n")
        except OSError:
            is_report = False
        if not is_report:
            raise ImgclfError(f"{path}: exists and is no report of imgclf, so it is not overwritten; choose another name")
    if not path.parent.is_dir() or not is_writable(path.parent):
        raise ImgclfError(f"{path}: the folder {path.parent} is missing or cannot be written; choose another place")


def write_report(result: Cleaning, path: Path) -> None:
    """One CSV row per file."""
    from imgclf.display import report

    report.write_csv([dataclasses.asdict(finding) for finding in result.findings], path, COLUMNS)


def clean(data: Path, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> Cleaning:
    """Decode every file in every class folder; move the unusable to quarantine and mend wrong extensions, by journal.

    Nothing is deleted, rewritten or overwritten. With `dry_run` nothing is moved either. Raises ImgclfError.
    """
    if not dataset.class_folders(data):
        dataset.index(data)  # says what is missing
    state = state_folder(data)
    if not dry_run and not is_inside(state, data):
        raise ImgclfError(f"{data}: read-only, so nothing can be moved; use --dry-run to see the findings")
    with contextlib.nullcontext() if dry_run else journal.locked(state, "clean"):
        notes = [] if dry_run else journal.recover(data, state)
        files = dataset.scan(data)
        findings = []
        for done, finding in enumerate(ordered_map(lambda file: _examine(data, file), files), 1):
            findings.append(finding)
            if progress:
                progress(done, len(files))
        findings = _name_targets(data, state, findings)
        if not dry_run:
            moves = [journal.Move(finding.path, finding.moved_to) for finding in findings if finding.moved_to]
            failures = journal.apply(data, state, "clean", moves)
            stuck = {failure.move.source: failure.reason for failure in failures}
            findings = [_stuck(finding, stuck[finding.path]) if finding.path in stuck else finding for finding in findings]
    return Cleaning(data, dry_run, tuple(findings), tuple(notes))


def undo(data: Path) -> tuple[list[str], list[str], list[str]]:
    """Put every file that clean moved back where it was.

    Returns the restored paths, a line for each that could not be, and notes.
    """
    state = state_folder(data)
    with journal.locked(state, "clean --undo"):
        notes = journal.recover(data, state)
        made, failed = journal.undo(data, state)
    problems = [
        f"{failure.move.source} could not go back to {failure.move.target}: {failure.reason}; make way for it and undo again"
        for failure in failed
    ]
    return [move.target for move in made], problems, notes


def _examine(data: Path, file: dataset.Found) -> Finding:
    """Fully decode one file and say what it is; pure but for reading it."""
    path = data / file.path
    try:
        size = os.lstat(path).st_size
    except OSError:
        size = 0
    if file.ignored:
        return Finding(file.path, "ignored", "rule", file.ignored, bytes=size)
    kind, width, height = "", 0, 0
    try:
        content = images.read(path)
        head = images.header(content)
        kind, width, height = head.format, head.width, head.height
        images.decode(content)
    except ImageError as error:
        if error.reason == "unreadable":  # by no fault of the picture, perhaps: it stays where it is
            return Finding(file.path, "stuck", error.reason, str(error), "", kind, width, height, size)
        return Finding(file.path, "quarantined", error.reason, str(error), "", kind, width, height, size)
    right = images.FORMATS[kind]
    suffix = Path(file.path).suffix
    if suffix.lower() in right:
        return Finding(file.path, "kept", "", "", "", kind, width, height, size)
    detail = f"{kind} named {suffix}" if suffix else f"{kind} without an extension"
    return Finding(file.path, "renamed", "extension", detail, "", kind, width, height, size)


def _name_targets(data: Path, state: Path, findings: list[Finding]) -> list[Finding]:
    """Choose a free name for every file that will move: in quarantine under its own path, or beside itself."""
    batch = journal.next_number(state)
    taken = {finding.path for finding in findings}
    named = []
    for finding in findings:
        if finding.action == "quarantined":
            # A folder of its own for each clean, so that two files of the same name never meet.
            finding = dataclasses.replace(finding, moved_to=f".imgclf/quarantine/{batch:04d}/{finding.path}")
        elif finding.action == "renamed":
            stem = _without_wrong_suffix(finding.path)
            target = _free(stem, images.FORMATS[finding.format][0], taken, data)
            taken.add(target)
            finding = dataclasses.replace(finding, moved_to=target)
        named.append(finding)
    return named


def _stuck(finding: Finding, reason: str) -> Finding:
    return dataclasses.replace(finding, action="stuck", moved_to="", detail=f"{finding.detail}; could not be moved: {reason}")


def _without_wrong_suffix(path: str) -> str:
    """Drop an ending that names a format; keep what only looks like one, as in `photo 1.5 m` or `IMG.2021`."""
    stem, dot, ending = path.rpartition(".")
    known = {".heic", ".heif"}.union(*images.FORMATS.values())
    if dot and f".{ending.lower()}" in known and not stem.endswith("/"):
        return stem
    return path


def _free(stem: str, extension: str, taken: set[str], data: Path) -> str:
    name, number = stem + extension, 1
    while name in taken or os.path.lexists(data / name):
        number += 1
        name = f"{stem}-{number}{extension}"
    return name

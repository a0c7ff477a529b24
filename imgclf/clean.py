"""`imgclf clean`: look at every file of a data folder, set aside what cannot be used, report what is doubtful, lose nothing."""

import collections
import dataclasses
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from imgclf.core import csv_files, names, report_actions, shards
from imgclf.core.config import Policy
from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.core.fields import check
from imgclf.core.files import atomic, journal, locks
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.state_folder import check_output, is_inside, not_writable, state_folder
from imgclf.core.progress import Progress, Stages, stage
from imgclf.data import file_index, issues, layout
from imgclf.data.issues import CHECKS
from imgclf.images import decode
from imgclf.images.formats import filetypes
from imgclf.reports import image_page

PAGE_LIMIT = 500  # pictures of each finding on the HTML page
_DONE = {"report": "reported", "quarantine": "quarantined", "rename": "renamed", "relabel": "relabelled"}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One finding and what was done about it, in the past tense; in a dry run what would be, as `quarantine`.

    action: report, quarantine, rename or relabel, and stuck for a file that should have moved and could not.
    """

    path: str
    check: str
    score: float
    action: str
    detail: str
    other: str = ""
    moved_to: str = ""


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """What was found and done. outcomes: in the order of CHECKS, the worst first; ignored: (path, rule); notes: to be told."""

    data: Path
    dry_run: bool
    outcomes: tuple[Outcome, ...]
    ignored: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    pictures: dict[str, tuple[int, int]]  # usable pictures of each class: before, and without what was or would be set aside
    files: tuple[layout.Found, ...] = dataclasses.field(repr=False)  # those that were looked at
    catalogue: file_index.Catalogue = dataclasses.field(repr=False, compare=False)

    def counts(self) -> dict[str, int]:
        """Files by what became of them; `reported` ones are among the kept."""
        by_action: dict[str, set[str]] = collections.defaultdict(set)
        for outcome in self.outcomes:
            by_action[_DONE.get(outcome.action, outcome.action)].add(outcome.path)
        quarantined, stuck, renamed = by_action["quarantined"], by_action["stuck"], by_action["renamed"]
        return {
            "kept": len(self.files) - len(quarantined | stuck | renamed),
            "renamed": len(renamed),
            "quarantined": len(quarantined),
            "ignored": len(self.ignored),
            "stuck": len(stuck),
            "reported": len(by_action["reported"] - quarantined - stuck),
        }

    def by_check(self) -> dict[str, list[Outcome]]:
        """Outcomes by check, those checks that found something."""
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.check, []).append(outcome)
        return found

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": "clean/1",
            "data": str(self.data),
            "dry_run": self.dry_run,
            "files": len(self.files) + len(self.ignored),
            "counts": self.counts(),
            "pictures": {label: {"before": before, "after": after} for label, (before, after) in self.pictures.items()},
            "checks": {name: len(paths(found)) for name, found in self.by_check().items()},
            "findings": [dataclasses.asdict(outcome) for outcome in self.outcomes],
            "ignored": [{"path": path, "rule": rule} for path, rule in self.ignored],
            "notes": list(self.notes),
        }


def paths(outcomes: Sequence[Outcome]) -> set[str]:
    """The files of these outcomes. A file may have several outcomes of one check, such as conflicts with two other files."""
    return {outcome.path for outcome in outcomes}


COLUMNS = (
    "path", "label", "check", "score", "action", "new_label", "detail", "other", "moved_to",
    "format", "width", "height", "bytes",
)  # fmt: skip


def actions(policy: Policy, on: Mapping[str, str]) -> dict[str, str]:
    """What to do about each check; raises UsageError for a check or action that there is not."""
    chosen: dict[str, str] = {
        name: {"default": check.default, "strict": check.strict, "report": "report"}[policy] for name, check in CHECKS.items()
    }
    for name, action in on.items():
        _check_name(name)
        allowed = ("report", "quarantine", "ignore") + (("rename",) if name == "extension" else ())
        if action not in allowed:
            raise UsageError(f"--on {name}={action}: {action!r} is no action; choose {', '.join(allowed)}")
        chosen[name] = action
    return chosen


def limits(given: Mapping[str, float]) -> dict[str, float]:
    """Thresholds as given; raises UsageError for a check that has none, or a value outside 0 to 1."""
    for name, value in given.items():
        _check_name(name)
        if CHECKS[name].threshold is None:
            scored = ", ".join(check.name for check in CHECKS.values() if check.threshold is not None)
            raise UsageError(f"--threshold {name}: this check has no threshold; those that have: {scored}")
        if not 0 <= value <= 1:
            raise UsageError(f"--threshold {name}={value:g}: a score lies between 0 and 1")
        if name == "near-duplicate" and value < (least := CHECKS[name].threshold or 0):
            raise UsageError(f"--threshold {name}={value:g}: below {least:g} pictures are strangers; give more")
    return dict(given)


def _check_name(name: str) -> None:
    if name not in CHECKS:
        raise UsageError(f"{name!r} is no check; there are: {', '.join(CHECKS)}")


def clean(
    data: Path,
    *,
    policy: Policy = "default",
    on: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    dry_run: bool = False,
    progress: Stages | None = None,
) -> Cleaning:
    """Look at every file in every class folder, decode it to its end, and act on what is found, by journal.

    policy: `default` sets broken files and exact copies aside, `strict` everything doubtful, `report` nothing. on: other
    actions by check (see CHECKS). thresholds: other scores by check. Nothing is deleted, rewritten or overwritten, and with
    `dry_run` nothing is moved. Raises ImgclfError, also if most files are not images and `on` does not name `broken`.
    """
    check("policy", policy, Policy)
    todo, scores = actions(policy, on or {}), limits(thresholds or {})
    layout.classes(data)  # says what is missing
    state = state_folder(data)
    if not dry_run and not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved (use --dry-run to see the findings)"))
    with locks.locked(state, "clean"):
        notes = [] if dry_run else journal.recover(data, state)
        everything = layout.scan(data)
        files = tuple(file for file in everything if not file.ignored)
        ignored = tuple((file.path, file.ignored) for file in everything if file.ignored)
        with file_index.examine(data, [file.path for file in files], stage(progress, "decoding")) as catalogue:
            findings = issues.find(catalogue, files, scores, stage(progress, "comparing"))
        outcomes = _plan(data, state, findings, todo, catalogue)
        if not dry_run:
            if "broken" not in (on or {}):
                _check_holds_images(data, catalogue, outcomes)
            outcomes = _act(data, state, "clean", outcomes)
    if catalogue.taken:
        notes.append(shards.said(catalogue.taken))
    pictures = _pictures(files, catalogue.usable().tolist(), outcomes)
    notes += layout.merged_note(data, (file.path for file in files if file.label))
    notes += layout.unlabelled_note(data)
    notes += [f"the class folder {label} holds no picture" for label in layout.class_folders(data) if label not in pictures]
    return Cleaning(data, dry_run, tuple(outcomes), ignored, tuple(notes), pictures, files, catalogue)


_FEW = 10  # files that are not images; so many may lie in any data folder


def _check_holds_images(data: Path, catalogue: file_index.Catalogue, outcomes: Sequence[Outcome]) -> None:
    """Raise ImgclfError if most files are not images and would be moved: the path is probably wrong."""
    strangers = {catalogue.paths[index] for index in np.flatnonzero(catalogue.facts["problem"] == b"not-an-image").tolist()}
    moving = {outcome.path for outcome in outcomes if outcome.check == "broken" and outcome.moved_to} & strangers
    if len(moving) > max(_FEW, int(catalogue.usable().sum())):
        raise ImgclfError(
            f"{data}: {len(moving):,} of {len(catalogue.paths):,} files are not images, so this is probably not a data folder; "
            "nothing was moved. See them with --dry-run; to move them all the same, add --on broken=quarantine"
        )


def look(data: Path, shard: shards.Shard, progress: Progress | None = None) -> dict[str, Any]:
    """Decode a share of the files, and keep what was seen for the `clean` that comes after all shares; nothing is moved.

    Returns the share and its figures: files in the folder, files looked at (those that were known are not), unusable ones.
    """
    layout.classes(data)
    paths = [file.path for file in layout.scan(data) if not file.ignored]
    looked_at, broken = file_index.examine_share(data, paths, shard, progress)
    return {
        "data": str(data), "shard": shard.index, "shards": shard.count, "files": len(paths), "looked_at": looked_at,
        "broken": broken,
    }  # fmt: skip


def _pictures(files: Sequence[layout.Found], usable: Sequence[bool], outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    gone = {outcome.path for outcome in outcomes if _DONE.get(outcome.action, outcome.action) == "quarantined"}
    before = collections.Counter(file.label for file, good in zip(files, usable, strict=True) if good and file.label)
    lost = collections.Counter(file.label for file, good in zip(files, usable, strict=True) if good and file.path in gone)
    return {label: (count, count - lost[label]) for label, count in sorted(before.items())}


_COPIES = ("duplicate", "leakage", "near-duplicate", "mirrored")  # of two pictures, one may go


def _plan(
    data: Path,
    state: Path,
    findings: Sequence[issues.Finding],
    todo: Mapping[str, str],
    catalogue: file_index.Catalogue,
) -> list[Outcome]:
    """What to do about each finding, with a free name for every file that will move; a file moves once.

    A copy leaves only when the file that it was compared with stays: what is like something that is like a third need not be
    like that, and of every picture one stays.
    """
    unreadable = {catalogue.paths[index] for index in np.flatnonzero(catalogue.facts["problem"] == b"unreadable").tolist()}
    misnamed = {finding.path for finding in findings if finding.check == "extension"}
    formats = {
        path: catalogue.facts["format"][index].decode() for index, path in enumerate(catalogue.paths) if path in misnamed
    }
    planned = []
    led_to = _led_to(data, catalogue.paths)
    for finding in findings:
        action = todo[finding.check]
        if action == "ignore":
            continue
        if action == "rename" and filetypes.names_another(PurePosixPath(finding.path).suffix):
            action = "report"  # trust the name more than the first bytes
        if (action == "rename" or finding.other) and _place(data / finding.path) in led_to:
            action = "report"  # a link would lead nowhere afterwards, and what it shows is no worse than before
        if action == "quarantine" and finding.path in unreadable:  # by no fault of the picture, perhaps: it stays where it is
            action = "stuck"
        if action in ("quarantine", "rename") and _lies_elsewhere(data, finding.path):
            action = "report"  # in a folder that is linked here, which may belong to something else
        if action == "quarantine" and finding.other and any(layout.is_linked(data, p) for p in (finding.path, finding.other)):
            action = "report"  # perhaps two names of one file: to move it would take the file itself away
        planned.append((finding, action))
    leaving = {
        finding.path for finding, action in planned if action in ("quarantine", "stuck") and finding.check not in _COPIES
    }
    staying: set[str] = set()
    for number, (finding, action) in enumerate(planned):
        if action == "quarantine" and finding.check in _COPIES and finding.path not in leaving:
            if finding.path in staying or finding.other in leaving:
                planned[number] = finding, "report"
            else:
                leaving.add(finding.path)
                staying.add(finding.other)
    batch = journal.next_number(state)
    taken = set(catalogue.paths)
    outcomes = []
    for finding, action in planned:
        target = ""
        if action == "quarantine":
            # A folder of its own for each batch, so that two files of the same name never meet.
            target = f"{STATE_NAME}/quarantine/{batch:04d}/{finding.path}"
        elif action == "rename" and finding.path in leaving:
            action = "report"
        elif action == "rename":
            target = _free(
                filetypes.without_wrong_ending(finding.path), filetypes.FORMATS[formats[finding.path]][0], taken, data
            )
            taken.add(target)
        outcomes.append(Outcome(finding.path, finding.check, finding.score, action, finding.detail, finding.other, target))
    return outcomes


def _led_to(data: Path, paths: Sequence[str]) -> set[str]:
    """The places of files that a link among these leads to, at once or by way of other links."""
    found = set()
    for path in paths:
        place = os.path.join(data, path)
        for _step in range(40):  # as many as Linux follows
            if not os.path.islink(place):
                break
            place = _place(os.path.join(os.path.dirname(place), os.readlink(place)))
            found.add(place)
    return found


def _place(path: str | Path) -> str:
    """Where a file or link lies, whatever linked folders the path goes through."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _lies_elsewhere(data: Path, path: str) -> bool:
    """Whether a file lies in a linked folder."""
    folder = path.rpartition("/")[0]
    return bool(folder) and layout.is_linked(data, folder)


def _act(data: Path, state: Path, command: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Make the moves, each file once, and say what was done."""
    moves = dict.fromkeys(journal.Move(outcome.path, outcome.moved_to) for outcome in outcomes if outcome.moved_to)
    try:
        stuck = {failure.move: failure.reason for failure in journal.apply(data, state, command, moves)}
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; ".join(journal.recover(data, state))) from None
    done = []
    for outcome in outcomes:
        reason = stuck.get(journal.Move(outcome.path, outcome.moved_to))
        if outcome.moved_to and reason:
            detail = f"{outcome.detail}; could not be moved: {reason}"
            done.append(dataclasses.replace(outcome, action="stuck", moved_to="", detail=detail))
        else:
            done.append(dataclasses.replace(outcome, action=_DONE.get(outcome.action, outcome.action)))
    return done


def _free(stem: str, extension: str, taken: set[str], data: Path) -> str:
    name, number = stem + extension, 1
    while name in taken or os.path.lexists(data / name):
        number += 1
        name = f"{stem}-{number}{extension}"
    return name


# -- the report -------------------------------------------------------------------------------------------------------------


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
    pictures = []
    for file, facts in zip(result.files, result.catalogue.facts, strict=True):
        if file.path in shown:
            findings = tuple((one.check, one.score, one.action, one.detail) for one in by_path[file.path])
            other = next((one.other for one in by_path[file.path] if one.other), "")
            pictures.append(
                image_page.Picture(
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
        path, result.data, pictures, title=f"{result.data}: what clean found", group="finding",
        about=f"{len(result.files):,} files: {words}" + (" (dry run: nothing was moved)" if result.dry_run else ""),
        checks={name: (len(paths(found)), CHECKS[name].meaning) for name, found in result.by_check().items()},
        classes=layout.class_folders(result.data), progress=progress,
    )  # fmt: skip


# -- an edited report -------------------------------------------------------------------------------------------------------


def apply(data: Path, report: Path, *, dry_run: bool = False) -> tuple[list[Outcome], list[str]]:
    """Carry out an edited report: `quarantine` moves a file there, `relabel` into the class folder named in `new_label`.

    `rename` mends its extension, as in the report of a dry run; the other words of a report leave a file alone. Needs the
    columns path and action. Every line is checked before anything moves; one that an interrupted --apply carried out already is
    passed over. Returns what was done, and notes. Raises ImgclfError naming the line that is wrong.
    """
    state = state_folder(data)
    if not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved"))
    with locks.locked(state, "clean --apply"):
        notes = [] if dry_run else journal.recover(data, state)
        classes = layout.class_folders(data)
        known = {file.path: file for file in layout.scan(data)}
        batches = [
            batch for batch in journal.history(data, state) if batch.command == "clean --apply" and batch.state != "undone"
        ]
        moved = {names.nfc(move.source) for batch in batches for move in batch.moves}
        wanted, passed = _orders(data, report, known, classes, moved)
        if passed:
            notes.append(f"{passed:,} lines were carried out by an earlier --apply")
        batch = journal.next_number(state)
        taken = set(known)
        outcomes = []
        for path, (action, label) in wanted.items():
            if action == "quarantine":
                target = f"{STATE_NAME}/quarantine/{batch:04d}/{path}"
            elif action == "rename":
                target = _free(filetypes.without_wrong_ending(path), _extension(data / path), taken, data)
            else:
                inner = path.split("/", 2 if known[path].part else 1)[-1]
                stem, suffix = os.path.splitext(f"{names.spelled(data, _class_folder(known[path], label))}/{inner}")
                target = _free(stem, suffix, taken, data)
            taken.add(target)
            outcomes.append(Outcome(path, "", 0.0, action, f"line of {report.name}", "", target))
        return (outcomes if dry_run else _act(data, state, "clean--apply", outcomes)), notes


def _class_folder(file: layout.Found, label: str) -> str:
    """The folder of a class beside the one that a file is in."""
    return f"{file.path.split('/')[0]}/{label}" if file.part else label


def _extension(path: Path) -> str:
    """The usual extension of what a file is; raises ImgclfError when it is no picture."""
    try:
        return filetypes.FORMATS[decode.read_header(path).format][0]
    except ImageError as error:
        raise ImgclfError(f"{path}: cannot be renamed: {error}") from error


_WORDS = ("", "keep", "kept", "report", "ignored", "stuck", *_DONE.values())  # what a report says of files that stay


def _orders(
    data: Path, report: Path, known: Mapping[str, layout.Found], classes: Sequence[str], moved: Container[str]
) -> tuple[dict[str, tuple[str, str]], int]:
    """(action, new class) by path, from a report's lines that ask for one; and how many of them `moved` says are done."""
    found: dict[str, tuple[str, str]] = {}
    passed = 0
    spelling = names.by_spelling(known)
    for number, row in csv_files.records(report, "path", "action"):
        path, action, label = row["path"], row["action"].strip().lower(), names.nfc(row.get("new_label", "").strip())
        path = path if path in known else spelling.get(names.nfc(path), path)
        if action not in report_actions.WORDS:
            if action not in _WORDS:
                raise ImgclfError(
                    f"{report}, line {number}: {action!r} is no action; choose {', '.join(report_actions.WORDS)}, or keep"
                )
            if label:
                raise ImgclfError(f"{report}, line {number}: new_label is {label!r}, but the action is {action!r}, not relabel")
            continue
        where = f"{report}, line {number}: {path}"
        if path not in known and names.nfc(path) in moved:
            passed += 1
            continue
        if path not in known or known[path].label is None:
            raise ImgclfError(
                f"{where}: no such file in a class folder; has it moved since the report was made?{csv_files.not_utf8(path)}"
            )
        if action == "relabel" and label not in classes:
            raise ImgclfError(f"{where}: new_label is {label!r}, which is no class folder; there are: {', '.join(classes)}")
        if action == "relabel" and label == known[path].label:
            raise ImgclfError(f"{where}: is in {label} already")
        for folder in (os.path.dirname(path), _class_folder(known[path], label) if action == "relabel" else ""):
            if folder and layout.is_linked(data, folder):
                raise ImgclfError(f"{where}: {folder} is a link or in a linked folder, where nothing is moved; move it by hand")
        order = (action, label if action == "relabel" else "")
        if found.setdefault(path, order) != order:
            first = " ".join(found[path]).strip()
            raise ImgclfError(f"{where}: {' '.join(order).strip()} here and {first} in a line above; leave one of them")
    return found, passed


# -- taking back ------------------------------------------------------------------------------------------------------------


def undo(data: Path, number: int | None = None, *, dry_run: bool = False) -> tuple[list[str], list[str], list[str]]:
    """Put every file that clean moved back where it was, or those of one batch of `history`; with `dry_run` only say which.

    Returns the restored paths, a line for each that could not be, and notes.
    """
    state = state_folder(data)
    if not dry_run and not is_inside(state, data) and journal.history(data, data / STATE_NAME):
        raise ImgclfError(not_writable(data, "nothing can be moved back"))
    with locks.locked(state, "clean --undo"):
        if dry_run:
            batches = [batch for batch in history(data) if batch.state != "undone" and number in (None, batch.number)]
            if number is not None and not batches:
                raise journal.no_batch(state, number)
            return [move.source for batch in reversed(batches) for move in reversed(batch.moves)], [], []
        notes = journal.recover(data, state)
        made, failed = journal.undo(data, state, number)
    problems = [f"{failure.move.source} could not go back to {failure.move.target}: {failure.reason}" for failure in failed]
    return [move.target for move in made], problems, notes


def recover(data: Path) -> list[str]:
    """Finish what interrupted commands began, of other users and machines too; one line for each.

    Raises ImgclfError when nothing was interrupted.
    """
    state = state_folder(data)
    if not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved"))
    with locks.locked(state, "clean --recover"):
        said = journal.recover(data, state, foreign=True)
    if not said:
        raise ImgclfError(f"{data}: no command was interrupted here, so there is nothing to recover")
    return said


def history(data: Path) -> list[journal.Batch]:
    """Every batch of moves that clean made, the oldest first."""
    return journal.history(data, _journal(data))


def _journal(data: Path) -> Path:
    """Where the journal of moves lies: those made in a folder that is read-only now still count."""
    inside = data / STATE_NAME
    return inside if (inside / "journal").is_dir() else state_folder(data)

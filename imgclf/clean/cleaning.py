"""`imgclf clean`: decode every file of a data folder, quarantine unusable files, report doubtful ones, and lose nothing."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.clean.done import DONE, paths
from imgclf.clean.planning import plan
from imgclf.clean.policies import actions, limits
from imgclf.core import shards
from imgclf.core.config import Policy
from imgclf.core.errors import ImgclfError
from imgclf.core.fields import check
from imgclf.core.files import locks, operations, plans
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import is_inside, not_writable, state_folder
from imgclf.core.progress import Progress, Stages, stage
from imgclf.data import file_index, inspection, layout
from imgclf.data.checks import Issue
from imgclf.data.scanned import Scanned


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """The result of `clean`. issues: in the order of CHECKS, the worst first; ignored: (path, rule); notes: lines to print."""

    data: Path
    dry_run: bool
    issues: tuple[Issue, ...]
    ignored: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    images: dict[str, tuple[int, int]]  # usable images of each class: before, and without quarantined ones
    files: tuple[layout.DataFile, ...] = dataclasses.field(repr=False)  # the inspected files
    scanned: Scanned = dataclasses.field(repr=False, compare=False)

    def counts(self) -> dict[str, int]:
        """Return the number of files by result. Files that are only `reported` also count as kept."""
        by_action: dict[str, set[str]] = collections.defaultdict(set)
        for issue in self.issues:
            by_action[DONE.get(issue.action, issue.action)].add(issue.path)
        quarantined, stuck, renamed = by_action["quarantined"], by_action["stuck"], by_action["renamed"]
        return {
            "kept": len(self.files) - len(quarantined | stuck | renamed),
            "renamed": len(renamed),
            "quarantined": len(quarantined),
            "ignored": len(self.ignored),
            "stuck": len(stuck),
            "reported": len(by_action["reported"] - quarantined - stuck),
        }

    def by_check(self) -> dict[str, list[Issue]]:
        """Return the issues of each check that found any."""
        found: dict[str, list[Issue]] = {}
        for issue in self.issues:
            found.setdefault(issue.check, []).append(issue)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `clean --json`."""
        return {
            "schema": "clean/1",
            "data": str(self.data),
            "dry_run": self.dry_run,
            "files": len(self.files) + len(self.ignored),
            "counts": self.counts(),
            "images": {label: {"before": before, "after": after} for label, (before, after) in self.images.items()},
            "checks": {name: len(paths(found)) for name, found in self.by_check().items()},
            "issues": [dataclasses.asdict(issue) for issue in self.issues],
            "ignored": [{"path": path, "rule": rule} for path, rule in self.ignored],
            "notes": list(self.notes),
        }


def clean(
    data: StrPath,
    *,
    policy: Policy = "default",
    on: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    dry_run: bool = False,
    progress: Stages | None = None,
) -> Cleaning:
    """Decode every file in every class folder and act on the issues. Moves go through the journal and can be undone.

    Nothing is deleted, rewritten or overwritten.

    Args:
        policy: `default` quarantines broken files and exact copies, `strict` every doubtful file, `report` none.
        on: Actions that replace those of the policy, by check (see CHECKS).
        thresholds: Scores from 0 to 1 that replace the defaults, by check.
        dry_run: Report what would be done and move nothing.

    Raises:
        ImgclfError: If the folder cannot be used, or if most files are not images and `on` does not name `broken`.
    """
    data = Path(data)
    check("policy", policy, Policy)
    todo, scores = actions(policy, on or {}), limits(thresholds or {})
    layout.classes(data)  # raises an error that names what is missing
    state = state_folder(data)
    if not dry_run and not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved (use --dry-run to see the issues)"))
    with locks.locked(state, "clean"):
        notes = [] if dry_run else operations.recover(data, state)
        everything = layout.scan(data)
        files = tuple(file for file in everything if not file.ignored)
        ignored = tuple((file.path, file.ignored) for file in everything if file.ignored)
        with file_index.inspect(data, [file.path for file in files], stage(progress, "decoding")) as scanned:
            dropped = [name for name, action in todo.items() if action == "ignore"]
            issues = inspection.find(scanned, files, scores, stage(progress, "comparing"), ignored=dropped)
        issues = plan(data, state, issues, todo, scanned)
        if not dry_run:
            if "broken" not in (on or {}):
                _check_holds_images(data, scanned, issues)
            issues = act(data, state, "clean", issues)
    if scanned.taken:
        notes.append(shards.summary(scanned.taken))
    images = _images(files, scanned.usable().tolist(), issues)
    notes += layout.merged_note(data, (file.path for file in files if file.label))
    notes += layout.unlabelled_note(data)
    notes += [f"the class folder {label} holds no image" for label in layout.class_folders(data) if label not in images]
    return Cleaning(data, dry_run, tuple(issues), ignored, tuple(notes), images, files, scanned)


_FEW = 10  # this many files that are not images are normal in a data folder


def _check_holds_images(data: Path, scanned: Scanned, issues: Sequence[Issue]) -> None:
    """Raise ImgclfError if most files are not images and would be moved: the path is probably wrong."""
    strangers = {scanned.paths[index] for index in np.flatnonzero(scanned.measurements["problem"] == b"not-an-image").tolist()}
    moving = {issue.path for issue in issues if issue.check == "broken" and issue.moved_to} & strangers
    if len(moving) > max(_FEW, int(scanned.usable().sum())):
        raise ImgclfError(
            f"{data}: {len(moving):,} of {len(scanned.paths):,} files are not images, so this is probably not a data folder; "
            "nothing was moved. See them with --dry-run; to move them anyway, add --on broken=quarantine"
        )


def inspect_shard(data: Path, shard: shards.Shard, progress: Progress | None = None) -> dict[str, Any]:
    """Decode one shard of the files and store the measurements for the `clean` that follows the last shard. Move nothing.

    Returns the shard and its counts: files in the folder, files decoded now (unchanged files are not), unusable files.
    """
    layout.classes(data)
    paths = [file.path for file in layout.scan(data) if not file.ignored]
    inspected, broken = file_index.inspect_shard(data, paths, shard, progress)
    return {
        "data": str(data), "shard": shard.index, "shards": shard.count, "files": len(paths), "inspected": inspected,
        "broken": broken,
    }  # fmt: skip


def _images(files: Sequence[layout.DataFile], usable: Sequence[bool], issues: Sequence[Issue]) -> dict[str, tuple[int, int]]:
    gone = {issue.path for issue in issues if DONE.get(issue.action, issue.action) == "quarantined"}
    before = collections.Counter(file.label for file, good in zip(files, usable, strict=True) if good and file.label)
    lost = collections.Counter(file.label for file, good in zip(files, usable, strict=True) if good and file.path in gone)
    return {label: (count, count - lost[label]) for label, count in sorted(before.items())}


def act(data: Path, state: Path, command: str, issues: Sequence[Issue]) -> list[Issue]:
    """Move each file once, and return the issues with the action that was taken."""
    moves = dict.fromkeys(plans.Move(issue.path, issue.moved_to) for issue in issues if issue.moved_to)
    try:
        stuck = {failure.move: failure.reason for failure in operations.apply(data, state, command, moves)}
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; ".join(operations.recover(data, state))) from None
    done = []
    for issue in issues:
        reason = stuck.get(plans.Move(issue.path, issue.moved_to))
        if issue.moved_to and reason:
            detail = f"{issue.detail}; could not be moved: {reason}"
            done.append(dataclasses.replace(issue, action="stuck", moved_to="", detail=detail))
        else:
            done.append(dataclasses.replace(issue, action=DONE.get(issue.action, issue.action)))
    return done

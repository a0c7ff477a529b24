"""Find issues in the measurements of a scan. No file is read or moved here."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from imgclf.core.progress import Progress
from imgclf.data.checks import CHECKS, CLEAN_CHECKS, Issue
from imgclf.data.duplicates import similarity_issues
from imgclf.data.layout import DataFile
from imgclf.data.scanned import Scanned
from imgclf.images import quality
from imgclf.images.formats import filetypes


def find(
    scanned: Scanned,
    files: Sequence[DataFile],
    thresholds: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    *,
    ignored: Collection[str] = (),
) -> list[Issue]:
    """Return all issues, sorted by check in the order of CHECKS, then with the worst first.

    Args:
        files: Class and subset of each file of `scanned.paths`, in the same order.
        thresholds: Lowest score that is an issue, by check; the others keep their defaults.
        ignored: Checks whose issues the caller drops. They do not hide the issues that they imply.
    """
    given = dict(thresholds or {})
    least = given.pop("near-duplicate", 0.0)
    found = [*_file_issues(scanned), *similarity_issues(scanned, files, least, progress)]
    for name, flagged, scores in _flagged(scanned, given, ignored):
        for index in _indices(flagged):
            score, measured = float(scores[index]), scanned.measurements[index]
            detail = CHECKS[name].detail.format(score=score, rest=1 - score, width=measured["width"], height=measured["height"])
            found.append(Issue(scanned.paths[index], name, round(score, 4), detail))
    place = {name: number for number, name in enumerate(CHECKS)}
    label = {file.path: file.label or "" for file in files}
    found = [dataclasses.replace(issue, label=label[issue.path]) for issue in found]
    return sorted(found, key=lambda issue: (place[issue.check], -issue.score, issue.path))


def scores(scanned: Scanned) -> dict[str, NDArray[np.float64]]:
    """Return the score of every file by quality check: (n,) each, 0 for unusable files."""
    measured = scanned.measurements
    width, height = measured["width"].astype(np.float64), measured["height"].astype(np.float64)
    columns = {name: measured[name].astype(np.float64) for name in quality.SCORES}
    columns |= {name: score(width, height) for name, score in quality.SIZE_SCORES.items()}
    return {name: np.where(scanned.usable(), column, 0) for name, column in columns.items()}


def _flagged(
    scanned: Scanned, given: Mapping[str, float], ignored: Collection[str]
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
    """Return (check, mask of the flagged files, score of every file) for each quality check, without implied issues.

    `blurry`, `tiny` and `grayscale` are relative to the folder: soft scans, thumbnails or grey photographs are not an issue if
    most images of the folder are like that. A threshold given by the user is absolute, so that a lower one never flags fewer
    files.
    """
    columns, usable = scores(scanned), scanned.usable()
    limits = {name: check.threshold for name, check in CLEAN_CHECKS.items() if check.threshold is not None} | dict(given)
    flags = {name: usable & (column >= limits[name]) for name, column in columns.items()}
    if usable.any() and "blurry" not in given:
        blur = columns["blurry"][usable]
        middle = float(np.median(blur))
        spread = 1.4826 * float(np.median(np.abs(blur - middle)))  # estimates the standard deviation of normal data
        flags["blurry"] &= columns["blurry"] > middle + 4 * spread
    if usable.any() and "tiny" not in given:
        short = np.minimum(scanned.measurements["width"], scanned.measurements["height"])
        flags["tiny"] &= short < np.median(short[usable]) / 2
    if "grayscale" not in given and flags["grayscale"].sum() > 0.1 * usable.sum():
        flags["grayscale"][:] = False
    reported = dict(flags)
    for name in flags:
        for other in CHECKS[name].implied_by:  # also if `other` itself is implied and not reported
            if other not in ignored:
                reported[name] = reported[name] & ~flags[other]
    return [(name, reported[name], columns[name]) for name in CLEAN_CHECKS if name in flags]


def _indices(flags: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(flags).tolist()


def _file_issues(scanned: Scanned) -> list[Issue]:
    """Return issues of single files that do not depend on pixel quality."""
    measured, found = scanned.measurements, []
    for index in _indices(~scanned.usable()):
        detail = scanned.problems.get(index, "")
        check = "unsupported" if measured["problem"][index] == b"unsupported" else "broken"
        found.append(Issue(scanned.paths[index], check, 1.0, detail, ""))
    usable = scanned.usable()
    for index in _indices(usable & measured["endless"]):
        found.append(Issue(scanned.paths[index], "missing-end", 1.0, CHECKS["missing-end"].meaning))
    for index in _indices(usable & (measured["trailing"] > 0)):
        if scanned.paths[index].lower().endswith(".mpo"):
            continue  # the second image of a stereo pair
        trailing, size = int(measured["trailing"][index]), int(measured["bytes"][index])
        found.append(
            Issue(scanned.paths[index], "trailing", round(trailing / size, 4), f"{trailing:,} bytes after the end of the image")
        )
    for index in _indices(usable & measured["animated"]):
        found.append(Issue(scanned.paths[index], "animated", 1.0, CHECKS["animated"].meaning))
    formats = measured["format"]
    for kind in np.unique(formats[usable]):
        name = kind.decode()
        for index in _indices(usable & (formats == kind)):
            suffix = PurePosixPath(scanned.paths[index]).suffix
            if not filetypes.is_valid_extension(suffix, name):
                detail = f"{name} named {suffix}" if suffix else f"{name} without an extension"
                found.append(Issue(scanned.paths[index], "extension", 1.0, detail))
    return found

"""What is wrong with which file: the facts of a catalogue turned into issues. Nothing is read and nothing is moved here."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from imgclf.core.progress import Progress
from imgclf.data.catalogue import Catalogue
from imgclf.data.checks import CHECKS, CLEAN_CHECKS, IMPLIED, Issue
from imgclf.data.duplicates import resemblances
from imgclf.data.layout import Found
from imgclf.images import quality
from imgclf.images.formats import filetypes


def find(
    catalogue: Catalogue,
    files: Sequence[Found],
    thresholds: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> list[Issue]:
    """Every issue, sorted by check in the order of CHECKS, then the worst first.

    files: for each of the catalogue's paths its class and part, in the same order.
    """
    given = dict(thresholds or {})
    least = given.pop("near-duplicate", 0.0)
    found = [*_files(catalogue), *resemblances(catalogue, files, least, progress)]
    for name, flagged, scores in _flagged(catalogue, given):
        for index in _where(flagged):
            found.append(Issue(catalogue.paths[index], name, round(float(scores[index]), 4), _words(catalogue, name, index)))
    place = {name: number for number, name in enumerate(CHECKS)}
    label = {file.path: file.label or "" for file in files}
    found = [dataclasses.replace(issue, label=label[issue.path]) for issue in found]
    return sorted(found, key=lambda issue: (place[issue.check], -issue.score, issue.path))


def scores(catalogue: Catalogue) -> dict[str, NDArray[np.float64]]:
    """(n,) by quality check: the score of every file, 0 where there are no pixels."""
    facts = catalogue.facts
    width, height = facts["width"].astype(np.float64), facts["height"].astype(np.float64)
    columns = {
        name: facts[name].astype(np.float64) for name in ("blank", "dark", "bright", "low-contrast", "blurry", "grayscale")
    }
    columns["tiny"], columns["odd-aspect"] = quality.tiny(width, height), quality.odd_aspect(width, height)
    return {name: np.where(catalogue.usable(), column, 0) for name, column in columns.items()}


def _flagged(catalogue: Catalogue, given: Mapping[str, float]) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
    """(check, which files are found, every file's score), with what follows from other issues skipped.

    Three faults depend on what is usual in the folder: soft scans, thumbnails and grey photographs are no faults where all are.
    For a check whose threshold is given, what is usual does not matter: a lower one never finds fewer files.
    """
    columns, usable = scores(catalogue), catalogue.usable()
    limits = {name: check.threshold for name, check in CLEAN_CHECKS.items() if check.threshold is not None} | dict(given)
    flags = {name: usable & (column >= limits[name]) for name, column in columns.items()}
    if usable.any() and "blurry" not in given:
        sharpness = columns["blurry"][usable]
        middle = float(np.median(sharpness))
        spread = 1.4826 * float(np.median(np.abs(sharpness - middle)))  # of a normal distribution, the standard deviation
        flags["blurry"] &= columns["blurry"] > middle + 4 * spread
    if usable.any() and "tiny" not in given:
        short = np.minimum(catalogue.facts["width"], catalogue.facts["height"])
        flags["tiny"] &= short < np.median(short[usable]) / 2
    if "grayscale" not in given and flags["grayscale"].sum() > 0.1 * usable.sum():
        flags["grayscale"][:] = False
    for name, others in IMPLIED.items():
        for other in others:
            flags[name] = flags[name] & ~flags[other]
    return [(name, flags[name], columns[name]) for name in CLEAN_CHECKS if name in flags]


def _where(flags: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(flags).tolist()


def _words(catalogue: Catalogue, name: str, index: int) -> str:
    facts = catalogue.facts[index]
    if name in ("tiny", "odd-aspect"):
        return f"{facts['width']} x {facts['height']} pixels"
    return {
        "dark": f"nearly all pixels below {1 - facts['dark']:.0%} of full light in every colour",
        "bright": f"nearly all pixels above {facts['bright']:.0%} of full light in every colour",
        "blank": f"{facts['blank']:.1%} of the pixels alike",
        "low-contrast": f"uses {1 - facts['low-contrast']:.0%} of the range of grey",
        "blurry": f"blur {facts['blurry']:.2f} of 1",
        "grayscale": "no colour",
    }[name]


def _files(catalogue: Catalogue) -> list[Issue]:
    """Issues about a file by itself, other than how it looks."""
    facts, found = catalogue.facts, []
    for index in _where(~catalogue.usable()):
        detail = catalogue.problems.get(index, "")
        check = "unsupported" if facts["problem"][index] == b"unsupported" else "broken"
        found.append(Issue(catalogue.paths[index], check, 1.0, detail, ""))
    usable = catalogue.usable()
    for index in _where(usable & facts["endless"]):
        found.append(Issue(catalogue.paths[index], "missing-end", 1.0, CHECKS["missing-end"].meaning))
    for index in _where(usable & (facts["trailing"] > 0)):
        if catalogue.paths[index].lower().endswith(".mpo"):
            continue  # a stereo photo's second image
        trailing, size = int(facts["trailing"][index]), int(facts["bytes"][index])
        found.append(
            Issue(catalogue.paths[index], "trailing", round(trailing / size, 4), f"{trailing:,} bytes behind the image's end")
        )
    for index in _where(usable & facts["animated"]):
        found.append(Issue(catalogue.paths[index], "animated", 1.0, CHECKS["animated"].meaning))
    formats = facts["format"]
    for kind in np.unique(formats[usable]):
        name = kind.decode()
        for index in _where(usable & (formats == kind)):
            suffix = PurePosixPath(catalogue.paths[index]).suffix
            if not filetypes.is_right(suffix, name):
                detail = f"{name} named {suffix}" if suffix else f"{name} without an extension"
                found.append(Issue(catalogue.paths[index], "extension", 1.0, detail))
    return found

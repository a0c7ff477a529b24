"""What is wrong with which file: the facts of a catalogue turned into findings. Nothing is read and nothing is moved here."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgclf.core import components
from imgclf.core.progress import Progress
from imgclf.data.file_index import Catalogue
from imgclf.data.layout import Found, is_linked
from imgclf.images import quality, similarity
from imgclf.images.formats import filetypes

Action = Literal["report", "quarantine", "rename", "ignore"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing to look for. default, strict: what `clean` does by either policy. threshold: it is found from this score on."""

    name: str
    meaning: str
    default: Action = "report"
    strict: Action = "quarantine"
    threshold: float | None = None


CHECKS = {
    check.name: check
    for check in (
        Check("broken", "cannot be used: no picture, damaged, over the limits", default="quarantine"),
        Check("unsupported", "an image in a format that imgclf does not read; convert it", strict="report"),
        Check("extension", "named as another format, or without an extension", default="rename", strict="rename"),
        Check("missing-end", "the mark at the end is missing; every pixel is there", strict="report"),
        Check("trailing", "more bytes behind the picture's end", strict="report"),
        Check("animated", "several pictures in one file; the first is used", strict="report"),
        Check("duplicate", "the same pixels as another file of its class", default="quarantine"),
        Check("conflict", "the same or nearly the same picture under another class"),
        Check("leakage", "the same or nearly the same picture in another part of a folder that is split"),
        Check("near-duplicate", "nearly the same picture as another of its class", threshold=similarity.LEAST_SIMILARITY),
        Check("mirrored", "a mirror image of another of its class"),
        Check("blank", "nearly all pixels alike", threshold=0.98),
        Check("dark", "nearly black", threshold=0.70),
        Check("bright", "nearly white", threshold=0.70),
        Check("low-contrast", "hardly any difference between dark and bright", threshold=0.80),
        Check("blurry", "nothing sharp, where the folder's pictures usually are", threshold=0.70),
        Check("tiny", "few pixels, where the folder's pictures usually have more", threshold=0.50),
        Check("odd-aspect", "much longer than wide", threshold=0.70),
        Check("grayscale", "without colour, where nearly all the folder's pictures have it", strict="report", threshold=0.99),
    )
}
# What a score says when another fault is there already: a blank picture is dark or bright, without contrast and never sharp.
_IMPLIED = {
    "dark": ("blank",), "bright": ("blank",), "low-contrast": ("blank", "dark", "bright"),
    "blurry": ("blank", "low-contrast", "tiny"), "grayscale": ("blank", "dark", "bright"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one file. score: 0 to 1, the worse the higher. other: the file that it resembles."""

    path: str
    check: str
    score: float
    detail: str
    other: str = ""


def find(
    catalogue: Catalogue,
    files: Sequence[Found],
    thresholds: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Every finding, sorted by check in the order of CHECKS, then the worst first.

    files: for each of the catalogue's paths its class and part, in the same order.
    """
    given = dict(thresholds or {})
    least = given.pop("near-duplicate", 0.0)
    found = [*_files(catalogue), *_resemblances(catalogue, files, least, progress)]
    for name, flagged, scores in _flagged(catalogue, given):
        for index in _where(flagged):
            found.append(Finding(catalogue.paths[index], name, round(float(scores[index]), 4), _words(catalogue, name, index)))
    place = {name: number for number, name in enumerate(CHECKS)}
    return sorted(found, key=lambda finding: (place[finding.check], -finding.score, finding.path))


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
    """(check, which files are found, every file's score), with what follows from other findings left out.

    Three faults depend on what is usual in the folder: soft scans, thumbnails and grey photographs are no faults where all are.
    For a check whose threshold is given, what is usual does not matter: a lower one never finds fewer files.
    """
    columns, usable = scores(catalogue), catalogue.usable()
    limits = {name: check.threshold for name, check in CHECKS.items() if check.threshold is not None} | dict(given)
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
    for name, others in _IMPLIED.items():
        for other in others:
            flags[name] = flags[name] & ~flags[other]
    return [(name, flags[name], columns[name]) for name in CHECKS if name in flags]


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


def _files(catalogue: Catalogue) -> list[Finding]:
    """Findings about a file by itself, other than how it looks."""
    facts, found = catalogue.facts, []
    for index in _where(~catalogue.usable()):
        detail = catalogue.problems.get(index, "")
        check = "unsupported" if facts["problem"][index] == b"unsupported" else "broken"
        found.append(Finding(catalogue.paths[index], check, 1.0, detail, ""))
    usable = catalogue.usable()
    for index in _where(usable & facts["endless"]):
        found.append(Finding(catalogue.paths[index], "missing-end", 1.0, CHECKS["missing-end"].meaning))
    for index in _where(usable & (facts["trailing"] > 0)):
        if catalogue.paths[index].lower().endswith(".mpo"):
            continue  # a stereo photo's second image
        trailing, size = int(facts["trailing"][index]), int(facts["bytes"][index])
        found.append(
            Finding(
                catalogue.paths[index], "trailing", round(trailing / size, 4), f"{trailing:,} bytes behind the picture's end"
            )
        )
    for index in _where(usable & facts["animated"]):
        found.append(Finding(catalogue.paths[index], "animated", 1.0, CHECKS["animated"].meaning))
    formats = facts["format"]
    for kind in np.unique(formats[usable]):
        name = kind.decode()
        for index in _where(usable & (formats == kind)):
            suffix = PurePosixPath(catalogue.paths[index]).suffix
            if not filetypes.is_right(suffix, name):
                detail = f"{name} named {suffix}" if suffix else f"{name} without an extension"
                found.append(Finding(catalogue.paths[index], "extension", 1.0, detail))
    return found


# -- pictures that show the same --------------------------------------------------------------------------------------------


def groups(catalogue: Catalogue, progress: Progress | None = None) -> NDArray[np.int64]:
    """(n,) for each file the lowest index of those that show the same, directly or through others; its own where none does."""
    pairs = [(index, first) for index, first in enumerate(catalogue.same_pixels().tolist()) if index != first]
    similar = catalogue.similar_pairs(progress)
    pairs += zip(similar["first"].tolist(), similar["second"].tolist(), strict=True)
    return np.array(list(components.smallest(range(len(catalogue.paths)), pairs).values()), np.int64)


_RANK = {"test": 0, "val": 1, "train": 2, None: 3}  # which part a picture that is in several belongs to


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """A picture that shows the same as others in a part before its own: test comes before val, and val before train.

    index, other: in the catalogue; other is the most similar of those. similarity: between the two, 1 when `exact`.
    """

    index: int
    other: int
    similarity: float
    exact: bool
    mirrored: bool


def leaks(catalogue: Catalogue, files: Sequence[Found], progress: Progress | None = None) -> list[Leak]:
    """Every picture outside the first part that its group lies in, files without a part left out; in the order of files."""
    if not any(file.part for file in files):
        return []
    same = catalogue.same_pixels()
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups(catalogue, progress).tolist()):
        if files[index].part and catalogue.facts["problem"][index] == b"":
            members[group].append(index)
    found = []
    for group_ in members.values():
        for index in group_:
            before = [other for other in group_ if _RANK[files[other].part] < _RANK[files[index].part]]
            twin = next((other for other in before if same[other] == same[index]), None)
            if twin is not None:
                found.append(Leak(index, twin, 1.0, True, False))
            elif before:
                other, similarity, mirrored = catalogue.likeness(index, before)
                found.append(Leak(index, other, round(similarity, 4), False, mirrored))
    return sorted(found, key=lambda leak: leak.index)


def _how(exact: bool, mirrored: bool) -> str:
    return "the same pixels as" if exact else "a mirror image of" if mirrored else "nearly the same as"


def _resemblances(catalogue: Catalogue, files: Sequence[Found], at_least: float, progress: Progress | None) -> list[Finding]:
    """Duplicates, near-duplicates, mirror images, and such across classes and parts.

    Of the files that show the same the best is kept: one in the test part before one in another, no link, the most pixels, the
    most bytes, the shortest name. Every other one is found once, beside the file it was compared with.
    """
    same = catalogue.same_pixels()

    def goodness(index: int) -> tuple[int, bool, int, int, int, str]:
        facts, path = catalogue.facts[index], catalogue.paths[index]
        area = -int(facts["width"]) * int(facts["height"])
        return _RANK[files[index].part], is_linked(catalogue.root, path), area, -int(facts["bytes"]), len(path), path

    found: list[Finding] = []
    leaking = set()
    for leak in leaks(catalogue, files, progress):
        if leak.similarity >= at_least:
            leaking.add(leak.index)
            other = catalogue.paths[leak.other]
            detail = f"{_how(leak.exact, leak.mirrored)} {other}"
            found.append(Finding(catalogue.paths[leak.index], "leakage", leak.similarity, detail, other))
    copies: dict[int, list[int]] = collections.defaultdict(list)  # files by picture, where there are several
    for index in _where(same != np.arange(len(same))):
        copies[int(same[index])].append(index)
    best: dict[int, int] = {}  # the best file of each picture
    edges: dict[int, list[tuple[int, float, str]]] = collections.defaultdict(list)
    for picture, others in copies.items():
        kept: dict[tuple[str | None, str | None], int] = {}
        for index in sorted([picture, *others], key=goodness):
            first = kept.setdefault((files[index].label, files[index].part), index)
            if first != index:
                alike = "byte for byte" if catalogue.sha256[first] == catalogue.sha256[index] else "pixel for pixel"
                path, other = catalogue.paths[index], catalogue.paths[first]
                found.append(Finding(path, "duplicate", 1.0, f"{alike} the same as {other}", other))
        top, *rest = kept.values()
        best[picture] = top
        for index in rest:
            edges[top].append((index, 1.0, _how(True, False)))
            edges[index].append((top, 1.0, _how(True, False)))
    for pair in catalogue.similar_pairs(progress, at_least):
        one, two = (best.get(int(index), int(index)) for index in (pair["first"], pair["second"]))
        score, how = float(pair["similarity"]), _how(False, bool(pair["mirrored"]))
        edges[one].append((two, score, how))
        edges[two].append((one, score, how))

    seen: set[int] = set()
    for root in sorted(edges, key=goodness):
        if root in seen:
            continue
        seen.add(root)
        queue = collections.deque([root])
        while queue:  # outwards from the best of the group, so that each file is compared with one at least as close to it
            one = queue.popleft()
            for two, score, how in sorted(edges[one], key=lambda edge: (-edge[1], catalogue.paths[edge[0]])):
                if two not in seen:
                    seen.add(two)
                    queue.append(two)
                    if files[one].label != files[two].label or two not in leaking:
                        found += _resemblance(files[one], files[two], round(score, 4), how)
    return found


def _resemblance(kept: Found, other: Found, score: float, how: str) -> list[Finding]:
    """The finding about `other`, which shows the same as `kept`; about both when their classes differ."""
    about = f"{how} {kept.path}"
    if kept.label != other.label:
        back = Finding(kept.path, "conflict", score, f"{how} {other.path}", other.path)
        return [Finding(other.path, "conflict", score, about, kept.path), back]
    return [Finding(other.path, "mirrored" if how.startswith("a mirror") else "near-duplicate", score, about, kept.path)]

"""Find duplicates, near-duplicates and mirror images, also across classes and subsets.

"Similar" images have the same pixels, or are nearly the same, or are nearly the same after one of them is mirrored.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from imgclf.core import components
from imgclf.core.progress import Progress
from imgclf.data.checks import Issue
from imgclf.data.layout import DataFile, is_linked
from imgclf.data.scanned import Scanned


def groups(scanned: Scanned, progress: Progress | None = None) -> NDArray[np.int64]:
    """Return (n,): the lowest index in each file's connected component of similar images; its own index if it is alone."""
    pairs = [(index, first) for index, first in enumerate(scanned.same_pixels().tolist()) if index != first]
    similar = scanned.similar_pairs(progress)
    pairs += zip(similar["first"].tolist(), similar["second"].tolist(), strict=True)
    return np.array(list(components.smallest(range(len(scanned.paths)), pairs).values()), np.int64)


_RANK = {"test": 0, "val": 1, "train": 2, None: 3}  # an image that lies in several subsets belongs to the lowest of them


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """An image that is similar to images of a subset that ranks before its own (test, val, train).

    index, other: Indices into the scan; `other` is the most similar image of such a subset.
    similarity: Between the two; 1 if `exact`.
    """

    index: int
    other: int
    similarity: float
    exact: bool
    mirrored: bool


def leaks(scanned: Scanned, files: Sequence[DataFile], progress: Progress | None = None) -> list[Leak]:
    """Return every image that lies outside the first-ranked subset of its group, in the order of `files`.

    Files without a subset are skipped.
    """
    if not any(file.subset for file in files):
        return []
    same = scanned.same_pixels()
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups(scanned, progress).tolist()):
        if files[index].subset and scanned.measurements["problem"][index] == b"":
            members[group].append(index)
    found = []
    for indices in members.values():
        for index in indices:
            before = [other for other in indices if _RANK[files[other].subset] < _RANK[files[index].subset]]
            twin = next((other for other in before if same[other] == same[index]), None)
            if twin is not None:
                found.append(Leak(index, twin, 1.0, True, False))
            elif before:
                other, similarity, mirrored = scanned.likeness(index, before)
                found.append(Leak(index, other, round(similarity, 4), False, mirrored))
    return sorted(found, key=lambda leak: leak.index)


def _how(exact: bool, mirrored: bool) -> str:
    return "the same pixels as" if exact else "a mirror image of" if mirrored else "nearly the same as"


def similarity_issues(scanned: Scanned, files: Sequence[DataFile], at_least: float, progress: Progress | None) -> list[Issue]:
    """Return issues for duplicates, near-duplicates and mirror images: in one class, across classes, and across subsets.

    The best of several copies in one class and subset gets no `duplicate` issue. The order of preference is: in the test set,
    not a link, most pixels, most bytes, shortest path. Each other file is compared with one file, which its issue names.
    """

    def preference(index: int) -> tuple[int, bool, int, int, int, str]:
        measured, path = scanned.measurements[index], scanned.paths[index]
        area = -int(measured["width"]) * int(measured["height"])
        return _RANK[files[index].subset], is_linked(scanned.root, path), area, -int(measured["bytes"]), len(path), path

    leaking = {leak.index: leak for leak in leaks(scanned, files, progress) if leak.similarity >= at_least}
    found = [_leakage(scanned, leak) for leak in leaking.values()]
    edges: _Edges = collections.defaultdict(list)
    best: dict[int, int] = {}  # by the first file with the same pixels: the best of these files
    for image, others in _copies(scanned).items():
        kept: dict[tuple[str | None, str | None], int] = {}
        for index in sorted([image, *others], key=preference):
            first = kept.setdefault((files[index].label, files[index].subset), index)
            if first != index:
                found.append(_duplicate(scanned, index, first))
        best[image], *rest = kept.values()
        for index in rest:
            _join(edges, best[image], index, 1.0, _how(True, False))
    for pair in scanned.similar_pairs(progress, at_least):
        one, two = (best.get(int(index), int(index)) for index in (pair["first"], pair["second"]))
        _join(edges, one, two, float(pair["similarity"]), _how(False, bool(pair["mirrored"])))
    for one, two, score, how in _breadth_first(edges, sorted(edges, key=preference), scanned.paths):
        if files[one].label != files[two].label or two not in leaking:
            found += _resemblance(files[one], files[two], round(score, 4), how)
    return found


def _leakage(scanned: Scanned, leak: Leak) -> Issue:
    other = scanned.paths[leak.other]
    detail = f"{_how(leak.exact, leak.mirrored)} {other}"
    return Issue(scanned.paths[leak.index], "leakage", leak.similarity, detail, other)


def _duplicate(scanned: Scanned, index: int, kept: int) -> Issue:
    how = "byte for byte" if scanned.sha256[kept] == scanned.sha256[index] else "pixel for pixel"
    other = scanned.paths[kept]
    return Issue(scanned.paths[index], "duplicate", 1.0, f"{how} the same as {other}", other)


def _copies(scanned: Scanned) -> dict[int, list[int]]:
    """Return the other files with the same pixels, by the first file; files without copies are missing."""
    same = scanned.same_pixels()
    copies: dict[int, list[int]] = collections.defaultdict(list)
    for index in np.flatnonzero(same != np.arange(len(same))).tolist():
        copies[int(same[index])].append(index)
    return copies


_Edges = dict[int, list[tuple[int, float, str]]]  # for each file: (index of a similar file, similarity, in which way)


def _join(edges: _Edges, one: int, two: int, score: float, how: str) -> None:
    edges[one].append((two, score, how))
    edges[two].append((one, score, how))


def _breadth_first(edges: _Edges, roots: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[int, int, float, str]]:
    """Yield (file, a similar file, similarity, in which way), breadth-first from the first of `roots` in each group.

    Every file except the root is reached once, from a file that is at least as close to the root.
    """
    seen: set[int] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        queue = collections.deque([root])
        while queue:
            one = queue.popleft()
            for two, score, how in sorted(edges[one], key=lambda edge: (-edge[1], paths[edge[0]])):
                if two not in seen:
                    seen.add(two)
                    queue.append(two)
                    yield one, two, score, how


def _resemblance(kept: DataFile, other: DataFile, score: float, how: str) -> list[Issue]:
    """Return the issue of `other`, which is similar to `kept`; one issue for each of them if their classes differ."""
    about = f"{how} {kept.path}"
    if kept.label != other.label:
        back = Issue(kept.path, "conflict", score, f"{how} {other.path}", other.path)
        return [Issue(other.path, "conflict", score, about, kept.path), back]
    return [Issue(other.path, "mirrored" if how.startswith("a mirror") else "near-duplicate", score, about, kept.path)]

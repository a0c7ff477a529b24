"""Assign images to subsets: stratified by class, with groups kept whole, and reproducible by seed."""

import collections
import hashlib
import itertools
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from imgclf.core import components
from imgclf.core.config import SUBSETS, SplitConfig, Subset
from imgclf.data.dataset import Sample
from imgclf.data.manifest import Manifest, Row

P = TypeVar("P", bound=Hashable)  # the name of a subset, or the number of a fold


def quotas(
    count: int, fractions: Mapping[P, float], deficit: Mapping[P, float] | None = None, filled: Iterable[P] = ()
) -> dict[P, int]:
    """Return how many of `count` images of a class each subset gets, rounded by the largest remainder method.

    Each subset gets at least one image if there are enough images; `train` comes first.

    Args:
        deficit: Number of images that each subset still lacks over all classes. It decides which subset is rounded up, so that
            the totals over all classes are correct.
        filled: Subsets that already contain an image of this class, so that no minimum applies to them.
    """
    exact = {subset: count * fraction for subset, fraction in fractions.items()}
    numbers = {subset: math.floor(value + 1e-9) for subset, value in exact.items()}
    rest = {subset: exact[subset] - numbers[subset] for subset in fractions}
    missing = deficit or {}
    by_rest = sorted(fractions, key=lambda subset: (rest[subset] < 1e-9, -round(rest[subset] + missing.get(subset, 0.0), 9)))
    for subset in by_rest[: count - sum(numbers.values())]:
        numbers[subset] += 1
    lacking = [subset for subset in fractions if fractions[subset] > 0 and subset not in set(filled)]
    if count < len(lacking):
        lacking = list(filter("train".__eq__, lacking))[:count]
    for subset in lacking:
        if numbers[subset] == 0:
            numbers[max(fractions, key=lambda other: numbers[other] - (other in lacking))] -= 1
            numbers[subset] += 1
    return numbers


def group(hashes: Mapping[str, str], keys: Mapping[str, str], alike: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the group of every path.

    Files with equal content or an equal key, and files that form a pair in `alike`, are connected. The groups are the connected
    components. A group is named after the smallest content hash in it.

    Args:
        hashes: SHA-256 by path.
        keys: The user's group key (a patient, a burst) by path, for some or all paths.
        alike: Pairs of paths of duplicates or near-duplicates.
    """
    pairs = [(digest, f"~{keys[path]}") for path, digest in hashes.items() if path in keys]  # "~" sorts after every hash
    pairs += [(hashes[one], hashes[other]) for one, other in alike]
    first = components.smallest(hashes.values(), pairs)
    return {path: first[digest] for path, digest in hashes.items()}


def allocate(samples: Sequence[Sample], groups: Mapping[str, str], fractions: Mapping[P, float], seed: int) -> dict[str, P]:
    """Return the subset of every path: stratified by class, reproducible by seed, independent of the order on disk.

    The draw is fair: the probability that a group goes to a subset equals the subset's fraction, whatever the group's size and
    classes. Groups are never divided. Groups of several images are drawn first, in random order; single images then fill the
    rest of their class. The size of a subset differs from its target by at most the size of the largest group. `train` gets an
    image of every class, and each subset gets a group if one is available.

    Args:
        groups: Group by path.
        fractions: Fraction of the images for each subset; a subset with 0 gets none.
    """
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    rng = random.Random(seed)
    order = sorted(members)
    rng.shuffle(order)
    sizes = {name: collections.Counter(sample.label or "" for sample in members[name]) for name in order}
    draw = _Draw(sizes, {subset: fraction for subset, fraction in fractions.items() if fraction > 0}, rng)
    for name in order:
        if len(members[name]) > 1:
            draw.put(name, draw.subset(sizes[name]))
    draw.fill([name for name in order if len(members[name]) == 1])
    draw.fill_empty(order)
    return {sample.path: draw.subsets[name] for name in order for sample in members[name]}


class _Draw(Generic[P]):
    """Assign groups to subsets. The result is `subsets`: the subset of each assigned group.

    The probability of a subset is its fraction of the remaining room: room for images of the group's classes, and for groups of
    several images. The expected fraction does not depend on the size of the other groups, so every group gets each subset with
    the requested probability. (Always choosing the subset with the largest deficit would be unfair: with few groups, small
    subsets would get too many images.)
    """

    def __init__(self, sizes: Mapping[str, collections.Counter[str]], fractions: Mapping[P, float], rng: random.Random) -> None:
        self.subsets: dict[str, P] = {}
        self._sizes, self._fractions, self._rng = sizes, fractions, rng
        self._remaining: collections.Counter[str] = collections.Counter()
        self._largest: dict[str, int] = collections.defaultdict(int)
        for size in sizes.values():
            self._remaining.update(size)
            for label, count in size.items():
                self._largest[label] = max(self._largest[label], count)
        self._largest_group = max((size.total() for size in sizes.values()), default=0)
        self._room = {label: self._shared(count) for label, count in sorted(self._remaining.items())}
        self._all = self._shared(self._remaining.total())
        self._groups = self._shared(sum(size.total() > 1 for size in sizes.values()))
        self._held: dict[P, collections.Counter[str]] = {subset: collections.Counter() for subset in fractions}

    def _shared(self, count: int) -> dict[P, float]:
        return {subset: count * fraction for subset, fraction in self._fractions.items()}

    def put(self, name: str, subset: P) -> None:
        """Assign a group to a subset, or move it to another one."""
        size = self._sizes[name]
        for sign, place in ((-1, self.subsets.get(name)), (1, subset)):
            if place is not None:
                for label, count in size.items():
                    self._room[label][place] -= sign * count
                    self._held[place][label] += sign * count
                self._all[place] -= sign * size.total()
        if name not in self.subsets:
            self._remaining.subtract(size)
            self._groups[subset] -= size.total() > 1
        self.subsets[name] = subset

    def subset(self, size: collections.Counter[str]) -> P:
        """Draw the subset of a group of several images."""
        for subset in self._fractions:
            is_last = any(self._remaining[label] == size[label] and not self._held[subset][label] for label in size)
            if subset == "train" and is_last:
                return subset  # the last group with this class: `train` must have an image of every class
        weights = self._weights(size)
        whole = [subset for subset in weights if _fits(self._all, subset, size.total(), self._largest_group)]
        both = [
            subset
            for subset in whole
            if all(_fits(self._room[label], subset, count, self._largest[label]) for label, count in size.items())
        ]
        choice = both or whole
        return self._rng.choices(choice, [weights[subset] + 1e-9 for subset in choice])[0]

    def _weights(self, size: collections.Counter[str]) -> dict[P, float]:
        weights = _positive(self._groups)
        for label, count in size.items():
            for subset, fraction in _positive(self._room[label]).items():
                weights[subset] += fraction * count / size.total()
        return weights

    def fill(self, names: Sequence[str]) -> None:
        """Assign single images, in this order, to the subsets with the largest deficit of their class."""
        of_class: dict[str, list[str]] = {label: [] for label in self._room}
        for name in names:
            of_class[next(iter(self._sizes[name]))].append(name)
        targets = self._targets({label: len(own) for label, own in of_class.items()})
        deficit = {subset: self._all[subset] - sum(row[subset] for row in targets.values()) for subset in self._fractions}
        labels, subsets = list(of_class), list(self._fractions)
        self._rng.shuffle(labels)
        for label in labels:
            self._rng.shuffle(subsets)  # break ties between equal remainders at random
            filled = [subset for subset in subsets if self._held[subset][label]]
            count = len(of_class[label])
            numbers = quotas(count, {subset: targets[label][subset] / max(1, count) for subset in subsets}, deficit, filled)
            rest = iter(of_class[label])
            for subset, number in numbers.items():
                deficit[subset] += targets[label][subset] - number
                for name in itertools.islice(rest, number):
                    self.put(name, subset)

    def _targets(self, counts: Mapping[str, int]) -> dict[str, dict[P, float]]:
        """Return the fractional number of single images of each class for each subset, given the counts by class.

        Each class is divided in proportion to the remaining room of the subsets. If groups took more than their fraction, other
        classes compensate in a few rounds of iterative proportional fitting, so that the totals over all classes are correct.
        """
        targets = {label: {p: x * counts[label] for p, x in _positive(self._room[label]).items()} for label in counts}
        for _round in range(20):
            for subset, room in self._all.items():
                total = sum(row[subset] for row in targets.values())
                for row in targets.values():
                    row[subset] *= max(0.0, room) / total if total else 1.0
            for label, row in targets.items():
                targets[label] = {subset: fraction * counts[label] for subset, fraction in _positive(row).items()}
        return targets

    def fill_empty(self, names: Sequence[str]) -> None:
        """Move one group to each empty subset, from a subset that still has images of all its classes afterwards."""
        for empty in [subset for subset in self._fractions if not self._held[subset].total()]:
            spare = [
                name
                for name in names
                if all(self._held[self.subsets[name]][label] > count for label, count in self._sizes[name].items())
            ]
            if spare:
                excess = {
                    name: max(0, self._all[self.subsets[name]] + self._sizes[name].total() - self._largest_group)
                    for name in spare
                }
                self.put(min(spare, key=lambda name: excess[name]), empty)


def _positive(room: Mapping[P, float]) -> dict[P, float]:
    """Return each subset's fraction of the remaining room; 0 if no room is left."""
    total = sum(max(0.0, value) for value in room.values())
    return {subset: max(0.0, value) / total if total else 0.0 for subset, value in room.items()}


def _fits(room: Mapping[P, float], subset: P, count: int, largest: int) -> bool:
    """Return whether every subset can still end within one largest group of its target if `subset` takes `count` more images.

    This holds if the total excess, and so the total deficit of the others, is at most one group, or if the deficit of the
    emptiest subset exceeds that of `subset` by at most one group. The emptiest subset itself always fits.
    """
    after = {**room, subset: room[subset] - count}
    over = -sum(min(0.0, value) for value in after.values())
    return min(over, max(after.values()) - after[subset]) <= largest + 1e-9


def allocate_stably(
    samples: Sequence[Sample],
    hashes: Mapping[str, str],
    groups: Mapping[str, str],
    keys: Mapping[str, str],
    config: SplitConfig,
    old: Manifest | None,
) -> tuple[dict[str, Subset], list[tuple[str, str]]]:
    """Assign images to subsets so that images added later do not change the subset of earlier ones.

    The subset of a new group follows from the hash of its name: the user's key, or else its smallest content hash. Images of
    the old manifest keep their subset. They are found by content, or by path if the content is new (an image saved again). A
    new image joins the subset of its group. It is skipped if its group already lies in two subsets.

    Returns:
        The subset of every path, and (path, reason) of skipped images.
    """
    subset_of = {row.sha256: row.split for row in old.rows} if old else {}
    subset_at = {row.path: row.split for row in old.rows} if old else {}
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    subsets: dict[str, Subset] = {}
    skipped = []
    for name, own_samples in members.items():
        own = {sample.path: subset_of[hashes[sample.path]] for sample in own_samples if hashes[sample.path] in subset_of}
        if not own:
            own = {sample.path: subset_at[sample.path] for sample in own_samples if sample.path in subset_at}
        before = set(own.values())
        key = min((keys[sample.path] for sample in own_samples if sample.path in keys), default=name)
        place = int.from_bytes(hashlib.sha256(f"{config.seed}:{key}".encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
        for sample in own_samples:
            if sample.path in own:
                subsets[sample.path] = own[sample.path]
            elif len(before) > 1:
                skipped.append((sample.path, f"has duplicates or group members in {' and in '.join(sorted(before))}"))
            else:
                subsets[sample.path] = next(iter(before)) if before else _subset_at(place, config.fractions)
    return subsets, skipped


def _subset_at(place: float, fractions: Mapping[Subset, float]) -> Subset:
    """Return the subset whose section of the interval 0 to 1 contains `place`; sections are as long as the fractions."""
    total = 0.0
    for subset, fraction in fractions.items():
        total += fraction
        if place < total:
            return subset
    return next(subset for subset in reversed(SUBSETS) if fractions[subset] > 0)


def manifest_of(
    samples: Sequence[Sample], hashes: Mapping[str, str], groups: Mapping[str, str], subsets: Mapping[str, Subset]
) -> Manifest:
    """Return the manifest of all samples that have a subset."""
    rows = [
        Row(sample.path, sample.label or "", subsets[sample.path], groups[sample.path][:12], hashes[sample.path])
        for sample in samples
        if sample.path in subsets
    ]
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))

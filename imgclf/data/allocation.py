"""Which image goes to which subset: shares by class, groups that stay together, the same for the same seed."""

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
    count: int, fractions: Mapping[P, float], owed: Mapping[P, float] | None = None, filled: Iterable[P] = ()
) -> dict[P, int]:
    """How many of `count` images go to each subset: largest remainder, and at least one in each where there are enough.

    owed: images that each subset still lacks. It decides which subset is rounded up, so that the sums over classes are right.
    filled: subsets that already have an image of the class. A subset without one gets one, `train` first.
    """
    exact = {subset: count * share for subset, share in fractions.items()}
    numbers = {subset: math.floor(value + 1e-9) for subset, value in exact.items()}
    rest = {subset: exact[subset] - numbers[subset] for subset in fractions}
    missing = owed or {}
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
    """The group of every path: files with the same bytes or key, or that show the same, belong together, in long chains too.

    hashes: content by path; keys: what the user says belongs together (a patient, a burst), for some or all paths; alike: pairs
    of paths that show the same. A group is named after the smallest of its content hashes.
    """
    pairs = [(digest, f"~{keys[path]}") for path, digest in hashes.items() if path in keys]  # "~" sorts behind every hash
    pairs += [(hashes[one], hashes[other]) for one, other in alike]
    first = components.smallest(hashes.values(), pairs)
    return {path: first[digest] for path, digest in hashes.items()}


def allocate(samples: Sequence[Sample], groups: Mapping[str, str], fractions: Mapping[P, float], seed: int) -> dict[str, P]:
    """The subset of every path: stratified by class, the same for the same seed whatever the order on disk.

    The draw is fair: every group goes to a subset with the probability of the subset's share, whatever its size and classes.
    Groups are never separated. Groups of several images are drawn first, in random order; single images then fill the rest of
    their class. A subset differs from its target by at most the largest group. `train` gets an image of every class, and each
    subset gets a group if one is available.
    """
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    chance = random.Random(seed)
    order = sorted(members)
    chance.shuffle(order)
    sizes = {name: collections.Counter(sample.label or "" for sample in members[name]) for name in order}
    draw = _Draw(sizes, {subset: share for subset, share in fractions.items() if share > 0}, chance)
    for name in order:
        if len(members[name]) > 1:
            draw.put(name, draw.subset(sizes[name]))
    draw.fill([name for name in order if len(members[name]) == 1])
    draw.fill_empty(order)
    return {sample.path: draw.subsets[name] for name in order for sample in members[name]}


class _Draw(Generic[P]):
    """Assign groups to subsets. subsets: the subset of each assigned group.

    The probability of a subset is its share of the remaining room: room for images of the group's classes, and for groups of
    several images. The expected share stays the same however large the other groups are, so every group gets each subset with
    the requested probability. (Always choosing the subset that lacks most would be unfair: with few groups, small subsets would
    get more than their share.)
    """

    def __init__(
        self, sizes: Mapping[str, collections.Counter[str]], fractions: Mapping[P, float], chance: random.Random
    ) -> None:
        self.subsets: dict[str, P] = {}
        self._sizes, self._fractions, self._chance = sizes, fractions, chance
        self._to_come: collections.Counter[str] = collections.Counter()
        self._largest: dict[str, int] = collections.defaultdict(int)
        for size in sizes.values():
            self._to_come.update(size)
            for label, count in size.items():
                self._largest[label] = max(self._largest[label], count)
        self._largest_group = max((size.total() for size in sizes.values()), default=0)
        self._room = {label: self._shared(count) for label, count in sorted(self._to_come.items())}
        self._all = self._shared(self._to_come.total())
        self._groups = self._shared(sum(size.total() > 1 for size in sizes.values()))
        self._held: dict[P, collections.Counter[str]] = {subset: collections.Counter() for subset in fractions}

    def _shared(self, count: int) -> dict[P, float]:
        return {subset: count * share for subset, share in self._fractions.items()}

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
            self._to_come.subtract(size)
            self._groups[subset] -= size.total() > 1
        self.subsets[name] = subset

    def subset(self, size: collections.Counter[str]) -> P:
        """Draw the subset of a group of several images."""
        for subset in self._fractions:
            is_last = any(self._to_come[label] == size[label] and not self._held[subset][label] for label in size)
            if subset == "train" and is_last:
                return subset  # last chance for `train` to get this class
        weights = self._weights(size)
        whole = [subset for subset in weights if _fits(self._all, subset, size.total(), self._largest_group)]
        both = [
            subset
            for subset in whole
            if all(_fits(self._room[label], subset, count, self._largest[label]) for label, count in size.items())
        ]
        choice = both or whole
        return self._chance.choices(choice, [weights[subset] + 1e-9 for subset in choice])[0]

    def _weights(self, size: collections.Counter[str]) -> dict[P, float]:
        weights = _positive(self._groups)
        for label, count in size.items():
            for subset, share in _positive(self._room[label]).items():
                weights[subset] += share * count / size.total()
        return weights

    def fill(self, names: Sequence[str]) -> None:
        """Assign single images, in this order, to the subsets that lack their class most."""
        of_class: dict[str, list[str]] = {label: [] for label in self._room}
        for name in names:
            of_class[next(iter(self._sizes[name]))].append(name)
        wish = self._wish({label: len(own) for label, own in of_class.items()})
        owed = {subset: self._all[subset] - sum(row[subset] for row in wish.values()) for subset in self._fractions}
        labels, subsets = list(of_class), list(self._fractions)
        self._chance.shuffle(labels)
        for label in labels:
            self._chance.shuffle(subsets)  # break ties between equal remainders at random
            filled = [subset for subset in subsets if self._held[subset][label]]
            count = len(of_class[label])
            numbers = quotas(count, {subset: wish[label][subset] / max(1, count) for subset in subsets}, owed, filled)
            rest = iter(of_class[label])
            for subset, number in numbers.items():
                owed[subset] += wish[label][subset] - number
                for name in itertools.islice(rest, number):
                    self.put(name, subset)

    def _wish(self, counts: Mapping[str, int]) -> dict[str, dict[P, float]]:
        """Fractional number of single images of each class for each subset, given the counts by class.

        Each class is divided by the remaining room of its subsets. If groups took more, other classes compensate in a few
        rounds of  proportional fitting, so that the sums over classes are right.
        """
        wish = {label: {p: x * counts[label] for p, x in _positive(self._room[label]).items()} for label in counts}
        for _round in range(20):
            for subset, room in self._all.items():
                total = sum(row[subset] for row in wish.values())
                for row in wish.values():
                    row[subset] *= max(0.0, room) / total if total else 1.0
            for label, row in wish.items():
                wish[label] = {subset: share * counts[label] for subset, share in _positive(row).items()}
        return wish

    def fill_empty(self, names: Sequence[str]) -> None:
        """Give each empty subset a group from another subset that keeps images of all its classes."""
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
    """Each subset's share of the remaining room; 0 if there is none."""
    total = sum(max(0.0, value) for value in room.values())
    return {subset: max(0.0, value) / total if total else 0.0 for subset, value in room.items()}


def _fits(room: Mapping[P, float], subset: P, count: int, largest: int) -> bool:
    """Whether every subset can still end within one largest group of its target if this one takes `count` more images.

    This holds if the total excess, and so the total lack elsewhere, is at most one group, or if the emptiest subset lacks at
    most one group more than this one. The emptiest subset itself always fits.
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
    """(the subset of every path, (path, reason) of new images that fit into none): images added later move none.

    A group's subset follows from the hash of its name, the user's key or else its smallest content hash. What the old manifest
    has keeps its subset, by content or, where that is new, by path (an image saved anew), and what is new in a group joins it.
    A new image that shows the same as old ones in two subsets is skipped.
    """
    subset_of = {row.sha256: row.split for row in old.rows} if old else {}
    subset_at = {row.path: row.split for row in old.rows} if old else {}
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    subsets: dict[str, Subset] = {}
    skipped = []
    for name, group_ in members.items():
        own = {sample.path: subset_of[hashes[sample.path]] for sample in group_ if hashes[sample.path] in subset_of}
        if not own:
            own = {sample.path: subset_at[sample.path] for sample in group_ if sample.path in subset_at}
        before = set(own.values())
        key = min((keys[sample.path] for sample in group_ if sample.path in keys), default=name)
        place = int.from_bytes(hashlib.sha256(f"{config.seed}:{key}".encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
        for sample in group_:
            if sample.path in own:
                subsets[sample.path] = own[sample.path]
            elif len(before) > 1:
                skipped.append((sample.path, f"shows the same as images in {' and in '.join(sorted(before))}"))
            else:
                subsets[sample.path] = next(iter(before)) if before else _subset_at(place, config.fractions)
    return subsets, skipped


def _subset_at(place: float, fractions: Mapping[Subset, float]) -> Subset:
    """The subset at a place between 0 and 1."""
    total = 0.0
    for subset, share in fractions.items():
        total += share
        if place < total:
            return subset
    return next(subset for subset in reversed(SUBSETS) if fractions[subset] > 0)


def manifest_of(
    samples: Sequence[Sample], hashes: Mapping[str, str], groups: Mapping[str, str], subsets: Mapping[str, Subset]
) -> Manifest:
    """The manifest of the samples that have a subset."""
    rows = [
        Row(sample.path, sample.label or "", subsets[sample.path], groups[sample.path][:12], hashes[sample.path])
        for sample in samples
        if sample.path in subsets
    ]
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))

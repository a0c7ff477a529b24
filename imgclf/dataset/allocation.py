"""Which picture goes to which part: shares by class, groups that are never torn, the same for the same seed."""

import collections
import hashlib
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from imgclf.base import together
from imgclf.base.config import PARTS, Part
from imgclf.dataset.folder import Sample
from imgclf.dataset.manifest import Manifest, Row

P = TypeVar("P", bound=Hashable)  # the name of a part, or the number of a fold


def quotas(count: int, fractions: Mapping[P, float]) -> dict[P, int]:
    """How many of `count` pictures go to each part: largest remainder, and at least one in each where there are enough."""
    exact = {part: count * share for part, share in fractions.items()}
    numbers = {part: math.floor(value + 1e-9) for part, value in exact.items()}
    by_remainder = sorted(fractions, key=lambda part: numbers[part] - exact[part])
    for part in by_remainder[: count - sum(numbers.values())]:
        numbers[part] += 1
    wanted = [part for part in fractions if fractions[part] > 0]
    if count >= len(wanted):
        for part in wanted:
            if numbers[part] == 0:
                richest = max(wanted, key=lambda other: numbers[other])
                numbers[richest] -= 1
                numbers[part] += 1
    return numbers


def group(hashes: Mapping[str, str], keys: Mapping[str, str], alike: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """The group of every path: files with the same bytes or key, or that show the same, belong together, in long chains too.

    hashes: content by path; keys: what the user says belongs together (a patient, a burst), for some or all paths; alike: pairs
    of paths that show the same. A group is named after the smallest of its content hashes.
    """
    pairs = [(digest, f"~{keys[path]}") for path, digest in hashes.items() if path in keys]  # "~" sorts behind every hash
    pairs += [(hashes[one], hashes[other]) for one, other in alike]
    first = together.smallest(hashes.values(), pairs)
    return {path: first[digest] for path, digest in hashes.items()}


def allocate(samples: Sequence[Sample], groups: Mapping[str, str], fractions: Mapping[P, float], seed: int) -> dict[str, P]:
    """The part of every path: stratified by class, the same for the same seed whatever the order on disk.

    Groups are never torn. Those of several files are placed first, the largest before the others, each where its classes are
    furthest from their quotas; single files then fill the quotas up. A part that the large groups left empty gets the smallest
    of them that train can spare.
    """
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    by_class: dict[str, int] = collections.Counter(sample.label or "" for sample in samples)
    left = {label: quotas(count, fractions) for label, count in sorted(by_class.items())}
    order = sorted(members)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda name: -len(members[name]))  # stable: the largest first, otherwise shuffled
    allowed = [part for part in fractions if fractions[part] > 0]
    parts: dict[str, P] = {}
    for name in order:
        labels = [member.label or "" for member in members[name]]
        if len(labels) > 1:  # the part with the most room for all of them
            part = max(allowed, key=lambda part: min(left[label][part] for label in labels))
        else:  # in shuffled order, filling one part after the other is a random draw
            part = next((part for part in allowed if left[labels[0]][part] > 0), allowed[0])
        for member, label in zip(members[name], labels, strict=True):
            left[label][part] -= 1
            parts[member.path] = part
    for empty in [part for part in allowed if part not in parts.values()]:
        spare = next((name for name in reversed(order) if _can_spare(name, members, parts)), None)
        if spare:
            parts |= dict.fromkeys((member.path for member in members[spare]), empty)
    return parts


def _can_spare(name: str, members: Mapping[str, Sequence[Sample]], parts: Mapping[str, P]) -> bool:
    """Whether a group may leave its part: every class of it has other pictures there."""
    part = parts[members[name][0].path]
    others = {s.label for key, group_ in members.items() if key != name for s in group_ if parts[s.path] == part}
    return {member.label for member in members[name]} <= others


def allocate_stably(
    samples: Sequence[Sample],
    hashes: Mapping[str, str],
    groups: Mapping[str, str],
    keys: Mapping[str, str],
    fractions: Mapping[Part, float],
    seed: int,
    old: Manifest | None,
) -> tuple[dict[str, Part], list[tuple[str, str]]]:
    """(the part of every path, (path, reason) of new pictures that fit into none): pictures added later move none.

    A group's part follows from the hash of its name, the user's key or else its smallest content hash. What the old manifest
    has keeps its part, by content or, where that is new, by path (a picture saved anew), and what is new in a group joins it.
    A new picture that shows the same as old ones in two parts is left out.
    """
    part_of = {row.sha256: row.split for row in old.rows} if old else {}
    part_at = {row.path: row.split for row in old.rows} if old else {}
    members: dict[str, list[Sample]] = collections.defaultdict(list)
    for sample in samples:
        members[groups[sample.path]].append(sample)
    parts: dict[str, Part] = {}
    left_out = []
    for name, group_ in members.items():
        own = {sample.path: part_of[hashes[sample.path]] for sample in group_ if hashes[sample.path] in part_of}
        if not own:
            own = {sample.path: part_at[sample.path] for sample in group_ if sample.path in part_at}
        before = set(own.values())
        key = min((keys[sample.path] for sample in group_ if sample.path in keys), default=name)
        place = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
        for sample in group_:
            if sample.path in own:
                parts[sample.path] = own[sample.path]
            elif len(before) > 1:
                left_out.append((sample.path, f"shows the same as pictures in {' and in '.join(sorted(before))}"))
            else:
                parts[sample.path] = next(iter(before)) if before else _part_at(place, fractions)
    return parts, left_out


def _part_at(place: float, fractions: Mapping[Part, float]) -> Part:
    """The part at a place between 0 and 1."""
    total = 0.0
    for part, share in fractions.items():
        total += share
        if place < total:
            return part
    return next(part for part in reversed(PARTS) if fractions[part] > 0)


def manifest_of(
    samples: Sequence[Sample], hashes: Mapping[str, str], groups: Mapping[str, str], parts: Mapping[str, Part]
) -> Manifest:
    """The manifest of the samples that have a part."""
    rows = [
        Row(sample.path, sample.label or "", parts[sample.path], groups[sample.path][:12], hashes[sample.path])
        for sample in samples
        if sample.path in parts
    ]
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))

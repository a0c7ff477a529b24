"""Draw many splits of synthetic data sets, and compare each subset with the whole set.

    python tests/benchmarks/fairness.py --seeds 200

Prints means over seeds for each subset and each of 5 folds. First three differences from the whole set: fraction of images in
groups of several (such as near-duplicates), mean group size, and fraction of the class with the largest difference. Then two
differences from the subset's fraction: the probability of the quarter of groups with fewest and with most images. Last, the
largest distance from the target size in any draw, in sizes of the largest group. Exits with code 1 if a limit is exceeded.
"""

import argparse
import collections
import dataclasses
import random
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

from imgclf.data import allocation
from imgclf.data.dataset import Sample

SUBSETS: dict[Any, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
FOLDS: dict[Any, float] = dict.fromkeys(range(1, 6), 0.2)


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """A data set: its images, and the group of each path."""

    samples: list[Sample]
    groups: dict[str, str]

    @property
    def sizes(self) -> collections.Counter[str]:
        return collections.Counter(self.groups.values())


def pairs() -> Synthetic:
    """280 images of two classes, 160 of them in pairs."""
    made = Synthetic([], {})
    for label in "ab":
        for number in range(140):
            _add(made, label, f"{label} {number // 2}" if number < 80 else f"{label} alone {number}")
    return made


def patients(*, classes: str = "ab", count: int = 60, mixed: bool = False, seed: int = 0) -> Synthetic:
    """Groups of 2 to 40 images: of one class each, or `mixed`."""
    chance, made = random.Random(seed), Synthetic([], {})
    for number in range(count):
        share = chance.random()
        for _image in range(chance.randint(2, 40)):
            label = classes[number % len(classes)] if not mixed else classes[chance.random() < share]
            _add(made, label, f"patient {number}")
    return made


def tenths() -> Synthetic:
    """50 classes of ten images, six of them in pairs: no class can be divided exactly by the fractions."""
    made = Synthetic([], {})
    for label in range(50):
        for number in range(10):
            _add(made, f"{label:02d}", f"{label:02d} {number // 2 if number < 6 else 10 + number}")
    return made


def _add(made: Synthetic, label: str, group: str) -> None:
    sample = Sample(f"{label}/{len(made.samples):05d}.jpg", label)
    made.samples.append(sample)
    made.groups[sample.path] = group


@dataclasses.dataclass(frozen=True)
class SubsetSummary:
    """One subset, over all seeds. Values are means over seeds, compared with the whole set.

    paired: fraction of images in groups of several. size: images per group. classes: fraction of the class with the largest
    difference. smallest, largest: probability of the quarter of groups with fewest and with most images, minus the subset's
    fraction. furthest: largest distance from the target size, in sizes of the largest group.
    """

    paired: float
    size: float
    classes: float
    smallest: float
    largest: float
    furthest: float

    @property
    def fair(self) -> bool:
        return abs(self.paired) <= 0.02 and abs(self.size) <= 0.04 and abs(self.classes) <= 0.02


def draw(made: Synthetic, fractions: Mapping[Any, float], seeds: int) -> dict[Any, SubsetSummary]:
    """Draw `seeds` splits and summarise each subset."""
    sizes, label_of = made.sizes, {sample.path: str(sample.label) for sample in made.samples}
    labels = collections.Counter(label_of.values())
    whole, total = statistics.mean(sizes.values()), len(made.samples)
    several = sum(count for count in sizes.values() if count > 1) / total
    of_size = sorted(sizes, key=lambda name: (sizes[name], name))
    ends = set(of_size[: len(of_size) // 4]), set(of_size[-(len(of_size) // 4) :])
    found: dict[Any, dict[str, list[float]]] = {subset: collections.defaultdict(list) for subset in fractions}
    for seed in range(seeds):
        subsets = allocation.allocate(made.samples, made.groups, fractions, seed)
        for subset, share in fractions.items():
            own = [path for path, where in subsets.items() if where == subset]
            groups, one = {made.groups[path] for path in own}, found[subset]
            count = max(1, len(own))
            one["paired"].append(sum(sizes[made.groups[path]] > 1 for path in own) / count - several)
            one["size"].append(len(own) / max(1, len(groups)) / whole - 1)
            of_class = collections.Counter(label_of[path] for path in own)
            for label in labels:
                one[f"class {label}"].append(of_class[label] / count - labels[label] / total)
            for name, end in zip(("smallest", "largest"), ends, strict=True):
                one[name].append(len(groups & end) / len(end) - share)
            one["off"].append(abs(len(own) - share * total) / max(sizes.values()))
    means = {subset: {name: statistics.mean(values) for name, values in one.items()} for subset, one in found.items()}
    return {
        subset: SubsetSummary(
            one["paired"], one["size"], max((one[f"class {label}"] for label in labels), key=abs),
            one["smallest"], one["largest"], max(found[subset]["off"]),
        )
        for subset, one in means.items()
    }  # fmt: skip


CASES: dict[str, Callable[[], Synthetic]] = {
    "280 images, 160 in pairs": pairs,
    "60 groups of 2 to 40, 2 classes": patients,
    "60 groups of 2 to 40, 3 classes": lambda: patients(classes="abc", seed=1),
    "60 groups of 2 to 40, both classes in each": lambda: patients(mixed=True, seed=2),
    "50 classes of 10, 6 in pairs": tenths,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    options = parser.parse_args()
    fair = True
    print(f"{'':<44}{'':>6}  paired    size   class  smallest  largest  furthest")
    for name, make in CASES.items():
        for fractions in (SUBSETS, FOLDS):
            for subset, one in draw(make(), fractions, options.seeds).items():
                # In `tenths`, each subset must get an image of each class, so sizes are less exact.
                fair &= one.fair and (one.furthest <= 1 or make is tenths)
                print(
                    f"{name:<44}{subset!s:>6} {one.paired:>+7.3f} {one.size:>+7.3f} {one.classes:>+7.3f} {one.smallest:>+9.3f} "
                    f"{one.largest:>+8.3f} {one.furthest:>9.2f}{'' if one.fair else '  not fair'}",
                    flush=True,
                )
    sys.exit(not fair)


if __name__ == "__main__":
    main()

"""Which image goes to which subset: shares, groups, seeds."""

import collections
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import shuffled

from imgclf.core.config import SUBSETS, SplitConfig
from imgclf.data import allocation
from imgclf.data.dataset import Sample
from imgclf.data.manifest import Manifest, Row

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fairness

DEFAULT = {"train": 0.70, "val": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, (0, 0, 0)), (1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (7, (5, 1, 1)),
        (10, (7, 2, 1)), (20, (14, 3, 3)), (1000, (700, 150, 150)),
    ],
)  # fmt: skip
def test_quotas_by_largest_remainder(count: int, expected: tuple[int, int, int]) -> None:
    assert tuple(allocation.quotas(count, DEFAULT).values()) == expected


def test_quotas_add_up_and_stay_within_one_of_the_ideal() -> None:
    for count, train, val in itertools.product(range(120), (0.5, 0.6, 0.8), (0.0, 0.1, 0.15)):
        fractions = {"train": train, "val": val, "test": 1 - train - val}
        numbers = allocation.quotas(count, fractions)
        assert sum(numbers.values()) == count
        if count >= 20:
            assert all(abs(numbers[subset] - count * fractions[subset]) < 1 for subset in SUBSETS)
        if val == 0:
            assert numbers["val"] == 0


def samples(counts: dict[str, int]) -> tuple[list[Sample], dict[str, str]]:
    made = [Sample(f"{label}/{n}.jpg", label) for label, count in counts.items() for n in range(count)]
    return made, {sample.path: f"{number:064x}" for number, sample in enumerate(made)}


def plan(made: list[Sample], hashes: dict[str, str], seed: int, keys: dict[str, str] | None = None) -> Manifest:
    groups = allocation.group(hashes, keys or {})
    return allocation.manifest_of(made, hashes, groups, allocation.allocate(made, groups, DEFAULT, seed))


def test_plan_is_complete_stratified_and_independent_of_disk_order() -> None:
    made, hashes = samples({"a": 100, "b": 37, "c": 3})
    manifest = plan(made, hashes, 5)
    assert sorted(row.path for row in manifest.rows) == sorted(sample.path for sample in made)
    assert manifest.counts() == {
        "a": {"train": 70, "val": 15, "test": 15},
        "b": {"train": 26, "val": 6, "test": 5},
        "c": {"train": 1, "val": 1, "test": 1},
    }
    for seed in range(5):
        assert plan(shuffled(made, seed), hashes, 5) == manifest
    assert plan(made, hashes, 6) != manifest


def test_every_image_is_as_likely_to_be_tested_as_any_other() -> None:
    made, hashes = samples({"a": 20, "b": 20})
    tested = collections.Counter(
        row.path for seed in range(400) for row in plan(made, hashes, seed).rows if row.split == "test"
    )
    assert len(tested) == 40
    assert 30 <= min(tested.values()) <= max(tested.values()) <= 95  # 60 expected, standard deviation 7


def test_identical_files_are_never_torn_apart() -> None:
    made, hashes = samples({"a": 60, "b": 60})
    for first, second in [("a/0.jpg", "a/1.jpg"), ("a/2.jpg", "b/3.jpg"), ("b/4.jpg", "b/5.jpg"), ("b/4.jpg", "b/6.jpg")]:
        hashes[second] = hashes[first]
    for seed in range(50):
        manifest = plan(made, hashes, seed)
        subsets = collections.defaultdict(set)
        for row in manifest.rows:
            subsets[row.sha256].add(row.split)
        assert all(len(value) == 1 for value in subsets.values())
        assert manifest.counts()["a"] == manifest.counts()["b"] == {"train": 42, "val": 9, "test": 9}


def test_groups_chain_through_content_and_key() -> None:
    hashes = {"1": "aa", "2": "bb", "3": "bb", "4": "cc", "5": "dd", "6": "ee"}
    keys = {"1": "x", "2": "x", "3": "y", "4": "y", "5": "z"}
    assert allocation.group(hashes, keys) == {"1": "aa", "2": "aa", "3": "aa", "4": "aa", "5": "dd", "6": "ee"}
    assert allocation.group(hashes, {}) == hashes


def test_groups_are_kept_together_and_shares_within_one_group() -> None:
    made, hashes = samples({"a": 100, "b": 60})
    keys = {sample.path: str(int(sample.path[2:-4]) // 5) for sample in made}  # five of each class share a number
    for seed in range(20):
        manifest = plan(made, hashes, seed, keys)
        subsets = collections.defaultdict(set)
        for row in manifest.rows:
            subsets[keys[row.path]].add(row.split)
        assert all(len(value) == 1 for value in subsets.values())
        for label, count in (("a", 100), ("b", 60)):
            for subset, share in DEFAULT.items():
                assert abs(manifest.counts()[label][subset] - count * share) <= 5


def test_every_class_share_is_within_one_group_of_the_ideal() -> None:
    import random

    for seed in range(60):
        chance = random.Random(seed)
        made, hashes, keys = [], {}, {}
        for label, count in (
            ("a", chance.randrange(40, 200)),
            ("b", chance.randrange(40, 200)),
            ("c", chance.randrange(5, 40)),
        ):
            for number in range(count):
                path = f"{label}/{number}.jpg"
                made.append(Sample(path, label))
                hashes[path] = f"{seed}{path}"
                if chance.random() < 0.6:
                    keys[path] = f"{label}{chance.randrange(count // 4 + 1)}"
        groups = allocation.group(hashes, keys)
        subsets = allocation.allocate(made, groups, DEFAULT, seed)
        for label in "abc":
            own = [sample.path for sample in made if sample.label == label]
            largest = max(collections.Counter(groups[path] for path in own).values())
            counts = collections.Counter(subsets[path] for path in own)
            for subset, share in DEFAULT.items():
                assert abs(counts[subset] - len(own) * share) <= largest + 1, (seed, label, counts)


@pytest.mark.parametrize("shares", [fairness.SUBSETS, fairness.FOLDS], ids=["subsets", "folds"])
@pytest.mark.parametrize("case", list(fairness.CASES))
def test_every_subset_is_like_the_whole(case: str, shares: dict[Any, float]) -> None:
    """In its share of images with a near-duplicate, its mean group size and its classes, as means over many draws."""
    made = fairness.CASES[case]()
    for subset, seen in fairness.draw(made, shares, 10 if case.startswith("50") else 40).items():
        # Of 40 draws, the mean size of nine groups has a standard deviation of 3%; the benchmark draws 200.
        assert abs(seen.paired) <= 0.03, (subset, seen)
        assert abs(seen.size) <= 0.10, (subset, seen)
        assert abs(seen.classes) <= 0.05, (subset, seen)
        assert seen.furthest <= (1 if len({sample.label for sample in made.samples}) < 10 else 5), (subset, seen)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_group_reaches_each_subset_with_its_share_whatever_its_size(mixed: bool) -> None:
    """Largest first, none of the largest quarter would be tested, or half of the smallest."""
    made = fairness.patients(count=30, mixed=mixed, seed=5)
    for subset, seen in fairness.draw(made, DEFAULT, 300).items():
        assert abs(seen.smallest) <= 0.05, (subset, seen)
        assert abs(seen.largest) <= 0.05, (subset, seen)


def test_classes_that_do_not_divide_are_rounded_in_turn() -> None:
    """100 classes of seven: rounded alone, 5 + 1 + 1, the test set would lack five images and folds 3 to 5 a third."""
    made, hashes = samples({f"{number:02d}": 7 for number in range(100)})
    subsets = allocation.allocate(made, hashes, DEFAULT, 0)
    assert collections.Counter(subsets.values()) == {"train": 490, "val": 105, "test": 105}
    assert collections.Counter(allocation.allocate(made, hashes, fairness.FOLDS, 0).values()) == dict.fromkeys(range(1, 6), 140)
    for label in range(100):
        own = collections.Counter(subsets[sample.path] for sample in made if sample.label == f"{label:02d}")
        assert own["train"] in (4, 5)
        assert min(own["val"], own["test"]) == 1


def test_every_subset_has_a_group_where_there_are_three() -> None:
    made, hashes = samples({"a": 10})
    keys = {sample.path: "five" if number < 5 else "four" for number, sample in enumerate(made[:9])}
    seen = set()
    for seed in range(50):
        subsets = allocation.allocate(made, allocation.group(hashes, keys), DEFAULT, seed)
        assert set(subsets.values()) == {"train", "val", "test"}
        seen.add(tuple(subsets[path] for path in ("a/0.jpg", "a/5.jpg", "a/9.jpg")))
    assert len(seen) > 2


def test_no_class_leaves_train_to_fill_another_part() -> None:
    made, hashes = samples({"a": 5, "b": 4})
    groups = allocation.group(hashes, {sample.path: str(sample.label) for sample in made})
    for seed in range(20):
        subsets = allocation.allocate(made, groups, {"train": 0.5, "test": 0.5}, seed)
        assert set(subsets.values()) == {"train"}, "each class is one group, and would be in one subset only"


def test_every_class_is_learnt() -> None:
    """However few and large its groups are."""
    for sizes in ((9, 1), (8, 2), (5, 5), (3, 3, 3), (1, 1), (10, 10, 10, 1)):
        made, hashes = samples({"a": sum(sizes), "b": 30})
        names = [number for number, size in enumerate(sizes) for _image in range(size)]
        keys = {f"a/{number}.jpg": str(name) for number, name in enumerate(names)}
        for seed in range(100):
            subsets = allocation.allocate(made, allocation.group(hashes, keys), {"train": 0.3, "val": 0.35, "test": 0.35}, seed)
            assert "train" in {subsets[path] for path in keys}, (sizes, seed)


def test_stable_shares_are_those_asked_for() -> None:
    made, hashes = samples({"a": 2000})
    groups = allocation.group(hashes, {})
    for fractions in (DEFAULT, {"train": 0.5, "val": 0.5, "test": 0.0}):
        subsets, skipped = allocation.allocate_stably(made, hashes, groups, {}, SplitConfig(**fractions), None)
        counts = collections.Counter(subsets.values())
        assert skipped == []
        for subset, share in fractions.items():
            assert abs(counts[subset] - 2000 * share) <= 4 * (2000 * share * (1 - share)) ** 0.5  # four standard deviations
        other, _skipped = allocation.allocate_stably(made, hashes, groups, {}, SplitConfig(**fractions, seed=1), None)
        assert other != subsets


def test_what_the_split_in_force_has_keeps_its_part() -> None:
    """By content under a new name, by path where it was saved anew; a new image joins those that show the same."""
    old = Manifest(
        tuple(Row(f"a/{number}.jpg", "a", subset, str(number), str(number)) for number, subset in enumerate(SUBSETS))
    )
    for seed in range(10):
        hashes = {"a/0.jpg": "saved anew", "a/renamed.jpg": "1", "a/2.jpg": "2", "a/like 2.jpg": "new"}
        groups = {**hashes, "a/like 2.jpg": "2"}
        made = [Sample(path, "a") for path in hashes]
        subsets, skipped = allocation.allocate_stably(made, hashes, groups, {}, SplitConfig(seed=seed), old)
        assert subsets == {"a/0.jpg": "train", "a/renamed.jpg": "val", "a/2.jpg": "test", "a/like 2.jpg": "test"}
        assert skipped == []


def test_an_image_that_would_join_two_parts_is_skipped() -> None:
    old = [Sample("a/1.jpg", "a"), Sample("a/2.jpg", "a")]
    hashes = {"a/1.jpg": "1", "a/2.jpg": "2", "a/3.jpg": "3"}
    manifest = Manifest((Row("a/1.jpg", "a", "train", "1", "1"), Row("a/2.jpg", "a", "test", "2", "2")))
    groups = dict.fromkeys(hashes, "1")  # the new image shows the same as both
    subsets, skipped = allocation.allocate_stably([*old, Sample("a/3.jpg", "a")], hashes, groups, {}, SplitConfig(), manifest)
    assert subsets == {"a/1.jpg": "train", "a/2.jpg": "test"}
    assert skipped == [("a/3.jpg", "has duplicates or group members in test and in train")]


def test_stable_parts_follow_the_users_groups() -> None:
    made, hashes = samples({"a": 400})
    keys = {path: f"patient {number % 40}" for number, path in enumerate(hashes)}
    subsets, _skipped = allocation.allocate_stably(made, hashes, allocation.group(hashes, keys), keys, SplitConfig(), None)
    assert all(len({subsets[path] for path in hashes if keys[path] == key}) == 1 for key in set(keys.values()))
    fewer = made[::3]  # a patient's subset does not depend on which of the images are there
    some = {sample.path: hashes[sample.path] for sample in fewer}
    again, _skipped = allocation.allocate_stably(fewer, some, allocation.group(some, keys), keys, SplitConfig(), None)
    assert all(again[path] == subsets[path] for path in again)


def test_a_subset_without_a_share_gets_nothing() -> None:
    made, hashes = samples({"a": 12})
    keys = {sample.path: str(number // 3) for number, sample in enumerate(made)}
    for seed in range(20):
        for groups in (allocation.group(hashes, {}), allocation.group(hashes, keys)):
            subsets = allocation.allocate(made, groups, {"train": 0.75, "val": 0.0, "test": 0.25}, seed)
            assert set(subsets.values()) == {"train", "test"}


def test_samples_without_a_part_are_not_in_the_manifest() -> None:
    made, hashes = samples({"a": 3})
    manifest = allocation.manifest_of(made[::-1], hashes, dict.fromkeys(hashes, "0123456789abcdef"), {"a/0.jpg": "train"})
    assert manifest.rows == (Row("a/0.jpg", "a", "train", "0123456789ab", hashes["a/0.jpg"]),)


def test_stable_places_are_those_of_the_hash() -> None:
    """The first eight bytes of a SHA-256 as a number between 0 and 1, also of names that are no UTF-8."""
    import hashlib

    made, hashes = samples({"a": 50})
    keys = {path: f"k\udcff{number}" for number, path in enumerate(hashes)}
    subsets, _skipped = allocation.allocate_stably(made, hashes, dict(hashes), keys, SplitConfig(seed=7), None)
    for path, key in keys.items():
        digest = hashlib.sha256(b"7:" + key.encode("utf-8", "surrogateescape")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        assert subsets[path] == ("train" if place < 0.7 else "val" if place < 0.85 else "test")
    assert allocation._subset_at(1.0, {"train": 0.5, "val": 0.5, "test": 0.0}) == "val"


def test_how_single_images_of_a_class_are_wished_for() -> None:
    """Room for 6, 2 and 2 images of which groups took some: rows add up to the classes, columns to the room."""
    made, hashes = samples({"a": 10, "b": 10})
    keys = {f"a/{number}.jpg": "group" for number in range(4)}
    groups = allocation.group(hashes, keys)
    for seed in range(200):
        subsets = allocation.allocate(made, groups, {"train": 0.6, "val": 0.2, "test": 0.2}, seed)
        counts = collections.Counter(subsets.values())
        own = collections.Counter(subset for path, subset in subsets.items() if path[0] == "a")
        place = subsets["a/0.jpg"]
        if place == "train":
            assert counts == {"train": 12, "val": 4, "test": 4}
            assert own == {"train": 6, "val": 2, "test": 2}
        else:
            assert counts == {"train": 12, "val": 4, "test": 4}, "the other class makes up for it"
            assert own[place] == 4

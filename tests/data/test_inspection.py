"""Issues from measured that are written down here: nothing is read, and which images are alike is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgclf.core.config import Subset
from imgclf.core.progress import Progress
from imgclf.data import duplicates, inspection
from imgclf.data.checks import Issue
from imgclf.data.layout import DataFile
from imgclf.data.scanned import Scanned
from imgclf.images import measurements, similarity

GOOD = {"format": b"PNG", "bytes": 1000, "width": 100, "height": 100, "blurry": 0.2}


class Known(Scanned):
    """A scanned whose pairs are given by index: (first, second, similarity, mirrored)."""

    alike: tuple[tuple[int, int, float, bool], ...] = ()

    def similar_pairs(self, progress: Progress | None = None, at_least: float = 0.0) -> NDArray[np.void]:
        rows = [(first, second, 0, score, turned) for first, second, score, turned in self.alike if score >= at_least]
        return np.array(rows, similarity.PAIRS)

    def likeness(self, first: int, others: Sequence[int]) -> tuple[int, float, bool]:
        pairs = [(score, {one, two} - {first}, turned) for one, two, score, turned in self.alike if first in (one, two)]
        score, (other,), turned = max(pair for pair in pairs if pair[1] <= set(others))
        return other, score, turned


def known(files: dict[str, dict[str, Any]], *alike: tuple[int, int, float, bool]) -> Known:
    """Good images but for what is given of each by path; `same` marks those with equal pixels."""
    measured = np.zeros(len(files), measurements.DTYPE)
    hashes = np.zeros(len(files), "V32")
    for index, given in enumerate(files.values()):
        values = {**GOOD, "pixels": (0, 1000 + index), **given}
        hashes[index] = np.void(values.pop("content", str(index)).encode().ljust(32, b"."))
        for name, value in values.items():
            measured[name][index] = value
    paths = list(files)
    scanned = Known(Path("data"), paths, measured, hashes, {}, np.zeros(len(files), np.int64), 0, [], None)  # type: ignore[arg-type]
    object.__setattr__(scanned, "alike", alike)
    return scanned


def found(paths: Sequence[str], subsets: Sequence[Subset | None] | None = None) -> list[DataFile]:
    labels = [path.split("/")[-2] for path in paths]
    return [
        DataFile(path, label, subset) for path, label, subset in zip(paths, labels, subsets or [None] * len(paths), strict=True)
    ]


def issues(scanned: Known, **thresholds: float) -> list[tuple[str, str, float, str]]:
    given = {name.replace("_", "-"): value for name, value in thresholds.items()}
    return [(one.check, one.path, one.score, one.detail) for one in inspection.find(scanned, found(scanned.paths), given)]


def crowd(**files: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """These among twenty good images."""
    return {f"a/good {number:02d}.png": {} for number in range(20)} | {f"a/{name}.png": given for name, given in files.items()}


@pytest.mark.parametrize(
    ("check", "score", "words"),
    [
        ("dark", 0.7, "nearly all pixels are below 30% of full brightness in every channel"),
        ("bright", 0.7, "nearly all pixels are above 70% of full brightness in every channel"),
        ("low-contrast", 0.8, "uses 20% of the brightness range"),
        ("blank", 0.98, "98.0% of the pixels have almost the same brightness"),
        ("blurry", 0.7, "blur 0.70 of 1"),
        ("grayscale", 0.99, "no colour"),
    ],
)
def test_a_score_at_the_threshold_is_an_issue_and_one_below_is_none(check: str, score: float, words: str) -> None:
    at = float(np.nextafter(np.float32(score), np.float32(1)))  # scores have four bytes
    files = crowd(found={check: at}, good={check: score - 0.01})
    assert issues(known(files)) == [(check, "a/found.png", round(score, 4), words)]
    assert [one[1] for one in issues(known(files), **{check.replace("-", "_"): score - 0.02})] == ["a/found.png", "a/good.png"]


def test_small_and_long_images() -> None:
    """Tiny from half of 64 pixels on, where the folder's images have more than twice as much; long from 10:3."""
    sides = {"tiny": (32, 40), "small": (33, 33), "long": (500, 150)}
    files = crowd(**{name: {"width": width, "height": height} for name, (width, height) in sides.items()})
    assert issues(known(files)) == [
        ("tiny", "a/tiny.png", 0.5, "32 x 40 pixels"),
        ("odd-aspect", "a/long.png", 0.7, "500 x 150 pixels"),
    ]
    thumbnails = {f"a/{number}.png": {"width": 60, "height": 60} for number in range(20)}
    half, less = {"a/30.png": {"width": 30, "height": 30}}, {"a/29.png": {"width": 29, "height": 29}}
    assert issues(known(thumbnails | half)) == [], "half of what is usual"
    assert [one[0] for one in issues(known(thumbnails | less))] == ["tiny"]
    assert [one[0] for one in issues(known(thumbnails | half), tiny=0.5)] == ["tiny"], "a given threshold does not ask"


def test_blur_is_none_where_all_are_soft() -> None:
    """Four deviations (1.4826 median deviations each) above the median: 0.75 + 4 * 1.4826 * 0.02 = 0.8686."""
    soft = {f"a/{number}.png": {"blurry": (0.73, 0.75, 0.77)[number % 3]} for number in range(30)}
    assert issues(known(soft | {"a/x.png": {"blurry": 0.868}})) == []
    assert [one[1] for one in issues(known(soft | {"a/x.png": {"blurry": 0.8687}}))] == ["a/x.png"]
    assert len(issues(known(soft), blurry=0.7)) == 30


def test_grey_is_none_where_more_than_a_tenth_are() -> None:
    def grey(count: int) -> list[tuple[str, str, float, str]]:
        return issues(known({f"a/{number:02d}.png": {"grayscale": float(number < count)} for number in range(20)}))

    assert [one[0] for one in grey(2)] == ["grayscale"] * 2
    assert grey(3) == []
    bad = known(
        {f"a/{number:02d}.png": {"grayscale": 1.0, **({} if number < 2 else {"problem": b"damaged"})} for number in range(20)}
    )
    assert [one[0] for one in issues(bad)] == ["broken"] * 18, "two of two that decode"


def test_what_follows_from_another_fault_is_not_named() -> None:
    everything = {"blank": 1.0, "dark": 1.0, "low-contrast": 1.0, "blurry": 1.0, "grayscale": 1.0}
    files = crowd(
        blank=everything,
        dark={"dark": 1.0, "low-contrast": 1.0, "grayscale": 1.0},
        night={"dark": 1.0, "low-contrast": 1.0, "blurry": 1.0},
        fog={"bright": 1.0, "low-contrast": 1.0, "blurry": 1.0},
        pale={"low-contrast": 1.0, "blurry": 1.0},
        soft={"blurry": 1.0},
        bright={"bright": 1.0, "low-contrast": 1.0, "grayscale": 1.0},
        tiny={"blurry": 1.0, "width": 20, "height": 20},
    )
    assert [(one[0], one[1][2:-4]) for one in issues(known(files))] == [
        ("blank", "blank"), ("dark", "dark"), ("dark", "night"), ("bright", "bright"), ("bright", "fog"),
        ("low-contrast", "pale"), ("blurry", "soft"), ("tiny", "tiny"),
    ]  # fmt: skip


def test_an_ignored_issue_does_not_hide_those_that_it_implies() -> None:
    """A dark image has no contrast and is not sharp: without `dark`, the lack of contrast is the reason, then the blur."""
    night = known(crowd(night={"dark": 1.0, "low-contrast": 1.0, "blurry": 1.0}))
    files = found(night.paths)
    for ignored, reported in (
        ((), ["dark"]),
        (("dark",), ["dark", "low-contrast"]),
        (("dark", "low-contrast"), ["dark", "low-contrast", "blurry"]),
    ):
        assert [issue.check for issue in inspection.find(night, files, ignored=ignored)] == reported


def test_scores_of_what_has_no_pixels_are_nothing() -> None:
    scanned = known(
        {"a/1.png": {"problem": b"damaged", "width": 1, "height": 90, "dark": 1.0}, "a/2.png": {"width": 16, "height": 64}}
    )
    scores = inspection.scores(scanned)
    assert sorted(scores) == ["blank", "blurry", "bright", "dark", "grayscale", "low-contrast", "odd-aspect", "tiny"]
    assert {name: column.tolist() for name, column in scores.items() if column.any()} == {
        "blurry": [0.0, pytest.approx(0.2)], "tiny": [0.0, 0.75], "odd-aspect": [0.0, 0.75],
    }  # fmt: skip


def test_what_is_wrong_with_a_file() -> None:
    scanned = known(
        {
            "a/broken.jpg": {"problem": b"damaged"},
            "a/heic.jpg": {"problem": b"unsupported"},
            "a/cut.png": {"endless": True},
            "a/more.png": {"trailing": 250},
            "a/stereo.MPO": {"trailing": 250, "format": b"JPEG"},
            "a/moves.png": {"animated": True},
            "a/jpeg.png": {"format": b"JPEG"},
            "a/none": {},
        }
    )
    scanned.problems.update({0: "half of it is missing", 1: "HEIC"})
    assert issues(scanned) == [
        ("broken", "a/broken.jpg", 1.0, "half of it is missing"),
        ("unsupported", "a/heic.jpg", 1.0, "HEIC"),
        ("extension", "a/jpeg.png", 1.0, "JPEG named .png"),
        ("extension", "a/none", 1.0, "PNG without an extension"),
        ("missing-end", "a/cut.png", 1.0, "the end marker is missing, but all pixels are present"),
        ("trailing", "a/more.png", 0.25, "250 bytes after the end of the image"),
        ("animated", "a/moves.png", 1.0, "several images in one file; only the first is used"),
    ]


def test_the_worst_comes_first_and_every_issue_has_its_class() -> None:
    files = crowd(x={"dark": 0.8}, y={"dark": 0.9}) | {"b/z.png": {"dark": 0.9}}
    listed = inspection.find(known(files), found(list(files)))
    assert [(one.path, one.score, one.label) for one in listed] == [
        ("a/y.png", 0.9, "a"), ("b/z.png", 0.9, "b"), ("a/x.png", 0.8, "a"),
    ]  # fmt: skip
    assert issues(known({"a/1.png": {"problem": b"damaged"}})) == [("broken", "a/1.png", 1.0, "")]
    assert issues(known({})) == []


# -- images that show the same ------------------------------------------------------------------------------------------------

SAME: dict[str, Any] = {"pixels": (7, 7)}


def resembling(scanned: Known, subsets: Sequence[Subset | None] | None = None, at_least: float = 0.0) -> list[tuple[str, ...]]:
    listed = duplicates.similarity_issues(scanned, found(scanned.paths, subsets), at_least, None)
    assert all(isinstance(one, Issue) for one in listed)
    return [(one.check, one.path, one.other, f"{one.score}", one.detail) for one in listed]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"width": 101}, {}),
        ({"bytes": 1001}, {}),
        ({"width": 101, "bytes": 10}, {"bytes": 5000}),
        ({}, {}),  # then by the shorter name
    ],
)
def test_the_best_of_a_class_is_kept(better: dict[str, Any], worse: dict[str, Any]) -> None:
    for names in (("a/1.png", "a/22.png"), ("a/22.png", "a/1.png")):
        if not better and names[0] == "a/22.png":
            continue
        scanned = known({names[0]: {**SAME, **better}, names[1]: {**SAME, **worse}})
        expected = f"pixel for pixel the same as {names[0]}"
        assert resembling(scanned) == [("duplicate", names[1], names[0], "1.0", expected)]
    scanned = known({"a/2.png": {**SAME, "content": "x"}, "a/1.png": {**SAME, "content": "x"}})
    assert resembling(scanned) == [("duplicate", "a/2.png", "a/1.png", "1.0", "byte for byte the same as a/1.png")]


def test_copies_in_two_classes_are_a_conflict_told_of_both() -> None:
    scanned = known({"a/1.png": {**SAME, "bytes": 2000}, "a/2.png": SAME, "b/1.png": SAME})
    assert resembling(scanned) == [
        ("duplicate", "a/2.png", "a/1.png", "1.0", "pixel for pixel the same as a/1.png"),
        ("conflict", "b/1.png", "a/1.png", "1.0", "the same pixels as a/1.png"),
        ("conflict", "a/1.png", "b/1.png", "1.0", "the same pixels as b/1.png"),
    ]


def test_each_image_is_compared_with_one_as_close_to_the_best() -> None:
    """A chain 0 - 1 - 2 of which the first has the most pixels; 3 is a mirror image of 1, and 4 of another class."""
    files = {"a/0.png": {"width": 300}, "a/1.png": {}, "a/2.png": {}, "a/3.png": {}, "b/4.png": {}, "a/5.png": {}}
    scanned = known(files, (0, 1, 0.91239, False), (1, 2, 0.95, False), (1, 3, 0.97, True), (2, 4, 0.9, False))
    assert resembling(scanned) == [
        ("near-duplicate", "a/1.png", "a/0.png", "0.9124", "nearly the same as a/0.png"),
        ("mirrored", "a/3.png", "a/1.png", "0.97", "a mirror image of a/1.png"),
        ("near-duplicate", "a/2.png", "a/1.png", "0.95", "nearly the same as a/1.png"),
        ("conflict", "b/4.png", "a/2.png", "0.9", "nearly the same as a/2.png"),
        ("conflict", "a/2.png", "b/4.png", "0.9", "nearly the same as b/4.png"),
    ]
    assert [one[1] for one in resembling(scanned, at_least=0.96)] == ["a/3.png"]
    assert duplicates.groups(scanned).tolist() == [0, 0, 0, 0, 0, 5]


def test_an_image_that_resembles_a_copy_is_held_against_the_best_of_the_copies() -> None:
    scanned = known({"a/1.png": SAME, "a/2.png": {**SAME, "bytes": 3000}, "a/3.png": {}}, (0, 2, 0.9, False))
    assert resembling(scanned) == [
        ("duplicate", "a/1.png", "a/2.png", "1.0", "pixel for pixel the same as a/2.png"),
        ("near-duplicate", "a/3.png", "a/2.png", "0.9", "nearly the same as a/2.png"),
    ]


def test_leaks_are_named_from_the_later_part_to_the_earlier() -> None:
    """A copy of a validation image in train, a mirror image of a test image in val; none within a subset or without one."""
    files = {
        "train/a/0.png": SAME, "val/a/1.png": SAME, "test/a/2.png": {}, "val/a/3.png": {}, "train/a/4.png": {},
        "train/a/5.png": {}, "extra/a/6.png": {}, "train/a/7.png": {"problem": b"damaged"},
    }  # fmt: skip
    subsets: list[Subset | None] = ["train", "val", "test", "val", "train", "train", None, "train"]
    scanned = known(files, (2, 3, 0.912345, True), (4, 5, 0.99, False), (2, 6, 0.95, False))
    listed = duplicates.leaks(scanned, found(scanned.paths, subsets))
    assert listed == [duplicates.Leak(0, 1, 1.0, True, False), duplicates.Leak(3, 2, 0.9123, False, True)]
    told = resembling(scanned, subsets)
    assert [one for one in told if one[0] == "leakage"] == [
        ("leakage", "train/a/0.png", "val/a/1.png", "1.0", "the same pixels as val/a/1.png"),
        ("leakage", "val/a/3.png", "test/a/2.png", "0.9123", "a mirror image of test/a/2.png"),
    ]
    assert [one[:3] for one in told if one[0] != "leakage"] == [
        ("near-duplicate", "extra/a/6.png", "test/a/2.png"),
        ("near-duplicate", "train/a/5.png", "train/a/4.png"),
    ], "what leaks is told once"
    assert [one[1] for one in resembling(scanned, subsets, at_least=0.95) if one[0] == "leakage"] == ["train/a/0.png"]
    assert duplicates.leaks(scanned, found(scanned.paths)) == []


def test_an_image_in_a_part_is_better_than_a_larger_one_in_none() -> None:
    scanned = known({"extra/a/1.png": {**SAME, "width": 900}, "train/a/2.png": {**SAME}})
    assert resembling(scanned, [None, "train"]) == [
        ("near-duplicate", "extra/a/1.png", "train/a/2.png", "1.0", "the same pixels as train/a/2.png"),
    ]


def test_a_chain_is_followed_from_its_best_image_in_both_directions() -> None:
    """Pairs name the lower index first; the image with the most pixels may be the last, or in the middle."""
    for best, expected in (
        (3, [("a/2.png", "a/3.png"), ("a/1.png", "a/2.png"), ("a/0.png", "a/1.png")]),
        (2, [("a/3.png", "a/2.png"), ("a/1.png", "a/2.png"), ("a/0.png", "a/1.png")]),
    ):
        files = {f"a/{number}.png": {"width": 300 if number == best else 100} for number in range(4)}
        scanned = known(files, (0, 1, 0.94, False), (1, 2, 0.95, False), (2, 3, 0.96, False))
        assert [one[:3] for one in resembling(scanned)] == [("near-duplicate", *pair) for pair in expected]


def test_images_that_are_as_similar_come_in_the_order_of_their_paths() -> None:
    files = {"a/0.png": {"width": 300}, "a/z.png": {}, "a/b.png": {}, "a/y.png": {}}
    scanned = known(files, (0, 1, 0.95, False), (0, 2, 0.95, False), (0, 3, 0.97, False), (1, 2, 0.99, False))
    assert [one[1:3] for one in resembling(scanned)] == [("a/y.png", "a/0.png"), ("a/b.png", "a/0.png"), ("a/z.png", "a/0.png")]


def test_a_leak_across_classes_is_also_a_conflict() -> None:
    """The same pixels in train as one class and in test as another: both issues have their own remedy."""
    scanned = known({"test/a/1.png": SAME, "train/b/2.png": SAME})
    assert [one[:3] for one in resembling(scanned, ["test", "train"])] == [
        ("leakage", "train/b/2.png", "test/a/1.png"),
        ("conflict", "train/b/2.png", "test/a/1.png"),
        ("conflict", "test/a/1.png", "train/b/2.png"),
    ]


def test_identical_images_leak_at_every_threshold() -> None:
    """Their similarity is exactly 1; the highest threshold is 1 too."""
    files = {"test/a/1.png": SAME, "train/a/2.png": SAME, "train/a/3.png": {}}
    scanned = known(files, (0, 2, 0.96, False))
    subsets: list[Subset | None] = ["test", "train", "train"]
    assert [one[:3] for one in resembling(scanned, subsets, at_least=1.0)] == [("leakage", "train/a/2.png", "test/a/1.png")]
    assert [one[1] for one in resembling(scanned, subsets, at_least=0.96)] == ["train/a/2.png", "train/a/3.png"]

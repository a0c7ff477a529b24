"""Test compare: the same images for both runs, exact counts, and a difference is reported only if it is significant."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_classes
from described import as_described

from imgclf.compare import compare
from imgclf.core.errors import ImgclfError
from imgclf.evaluate.evaluating import evaluate
from imgclf.evaluation.intervals import mcnemar, paired_interval
from imgclf.models.bundle import Bundle


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (3, 15), (40, 2), (700, 801), (2500, 2500), (0, 3000)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_the_interval_of_a_difference_covers_the_true_one() -> None:
    """It is near the normal approximation for many images, never empty for few, and covers the truth in 95% of draws."""
    low, high = paired_interval(60, 90, 1000)
    spread = 1.96 * np.sqrt((0.15 - 0.03**2) / 1000)
    assert (low, high) == pytest.approx((0.03 - spread, 0.03 + spread), abs=0.002)
    low, high = paired_interval(0, 0, 5)
    assert low < -0.3
    assert high > 0.3
    random = np.random.default_rng(0)
    for shares, count in (((0.05, 0.1, 0.85), 100), ((0.02, 0.02, 0.96), 50), ((0.3, 0.1, 0.6), 30)):
        drawn = random.multinomial(count, shares, size=2000)
        intervals = [paired_interval(first, second, count) for first, second, _rest in drawn.tolist()]
        held = np.mean([low <= shares[1] - shares[0] <= high for low, high in intervals])
        assert 0.93 < held <= 1


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a good run, and a bad one with a tiny learning rate."""
    from imgclf.core.config import TrainConfig
    from imgclf.split import splitting
    from imgclf.train import train

    root = tmp_path_factory.mktemp("two")
    make_classes(root / "data", {"blue": 24, "green": 24, "red": 24})
    splitting.split(root / "data")
    for name, rate, epochs in (("good", 3e-3, 6), ("bad", 1e-7, 3)):  # on some CPUs, 3 epochs are too few for the good run
        config = TrainConfig(epochs=epochs, batch_size=8, learning_rate=rate, ema=0.0)
        train(root / "data", config, run_dir=root / "runs" / name)
    return root


def test_compare_equals_two_evaluations(two: Path) -> None:
    bad, good = (Bundle.load(two / "runs" / name) for name in ("bad", "good"))
    result = compare(bad, good, two / "data", "train")
    alone = [evaluate(run, two / "data", "train") for run in (bad, good)]
    right = [[one["predicted"] == one["label"] for one in each.predictions] for each in alone]
    pairs = list(zip(*right, strict=True))
    assert (result.first.accuracy, result.second.accuracy) == (alone[0].accuracy, alone[1].accuracy)
    assert (result.first.loss, result.second.loss) == pytest.approx((alone[0].loss, alone[1].loss))
    counts = (result.both, result.only_first, result.only_second, result.neither)
    assert counts == tuple(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    assert result.difference == pytest.approx(alone[1].accuracy - alone[0].accuracy)
    assert {one.path for one in result.disagreements} == {
        row["path"] for row, pair in zip(alone[0].predictions, pairs, strict=True) if pair[0] != pair[1]
    }
    turned = compare(good, bad, two / "data", "train")
    assert (turned.difference, turned.only_first, turned.p_value) == (-result.difference, result.only_second, result.p_value)


def test_command(two: Path, imgclf: Run) -> None:
    done = imgclf("compare", "bad", "good", "--split", "train", cwd=two)
    assert done.returncode == 0
    assert "correct: both " in done.stdout
    assert "B is better" in done.stdout
    done = imgclf("compare", "bad", "good", "--split", "train", "--json", cwd=two)
    document = as_described("compare", json.loads(done.stdout))
    assert document["p_value"] < 0.05
    assert document["images"] == 50
    done = imgclf("compare", "good", "good", cwd=two)
    assert done.stderr == "imgclf: error: runs/good: the same run twice; give two different runs\n"


def test_runs_with_different_classes_cannot_be_compared(two: Path, tmp_path: Path) -> None:
    good = Bundle.load(two / "runs" / "good")
    other = Bundle(tmp_path, dataclasses.replace(good.info, class_names=("blue", "green", "rot")))
    with pytest.raises(ImgclfError, match="have different classes and cannot be compared; only one of them has: red, rot"):
        compare(good, other, two / "data")
    copy = shutil.copytree(two / "runs" / "good", tmp_path / "copy")
    same = compare(good, Bundle.load(copy), two / "data")
    assert (same.difference, same.p_value, same.disagreements) == (0.0, 1.0, ())

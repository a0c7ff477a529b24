"""Test audit: it finds planted label errors, outliers and copies; `clean --apply` carries out its CSV and undoes it."""

import csv
import dataclasses
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, photo, tree, write
from described import as_described
from sklearn.linear_model import Ridge

from imgclf.audit import auditing, writing
from imgclf.audit.results import Audit
from imgclf.clean import applying, undoing
from imgclf.core.config import AuditConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data.checks import AUDIT_CHECKS
from imgclf.evaluation import label_errors
from imgclf.evaluation.folds import assign_folds
from imgclf.images import preprocess


def texture(kind: str, index: int) -> np.ndarray:
    random = np.random.default_rng(index)
    image = np.full((48, 48, 3), random.integers(60, 190, 3), np.float64)
    if kind == "stripes":
        image[:: int(random.integers(3, 6))] += 60
    if kind == "dots":
        image[:: int(random.integers(4, 7)), :: int(random.integers(4, 7))] -= 60
    return np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make 120 images of three textures; two images of each class are in the folder of another class (named wrong)."""
    root = tmp_path_factory.mktemp("audit") / "data"
    kinds = ("dots", "plain", "stripes")
    for number, kind in enumerate(kinds):
        for index in range(38):
            write(root / kind / f"{index}.png", preprocess.encode(texture(kind, 100 * number + index), ".png"))
        for index in range(2):
            other = kinds[(number + 1 + index) % 3]
            write(
                root / other / f"wrong-{kind}-{index}.png", preprocess.encode(texture(kind, 900 + 10 * number + index), ".png")
            )
    return root


@pytest.fixture(scope="module")
def found(planted: Path) -> Audit:
    return auditing.audit(planted, AuditConfig(image_size=64))


def test_planted_errors_are_found(found: Audit) -> None:
    by_check = found.by_check()
    wrong = {one.path: one.suggestion for one in by_check["label"]}
    planted = {path for path in found.ranked if "wrong" in path}
    assert len(planted) == 6
    assert len(planted & set(wrong)) >= 5
    assert len(planted & set(found.ranked[:8])) >= 5  # 7% of 120
    assert all(wrong[path] == path.split("-")[1] for path in planted & set(wrong))
    assert sorted(found.ranked) == sorted(sample.path for sample in found.images.samples)


def test_an_image_in_two_classes_is_found(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg", encoded(photo(number, 200, 150)))
    write(tmp_path / "data" / "b" / "again.png", encoded(photo(10, 200, 150), "PNG"))
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(what: str, done: int, total: int) -> None:
        seen.setdefault(what, []).append((done, total))

    (found,) = auditing.audit(tmp_path / "data", AuditConfig(image_size=64), progress=progress).by_check()["similar"]
    # What takes long has a bar of its own that moves, behind the features too.
    assert list(seen)[-4:] == ["computing features", "comparing images", "predicting labels", "ranking labels"]
    assert all(steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 0 for steps in list(seen.values())[-4:])
    assert {found.path, found.other} == {"a/10.jpg", "b/again.png"}
    assert found.detail.endswith(f"but its class is {found.other[0]}")


def test_copies_are_distinguished_from_images_of_the_same_kind() -> None:
    """Copies are found however many images have one. Different images of the same kind do not count as copies."""
    random = np.random.default_rng(0)
    plain = random.normal(size=(60, 200)).astype(np.float32)
    copies = plain[:40] + 0.3 * random.normal(size=(40, 200)).astype(np.float32)
    near = label_errors.neighbours(np.concatenate([plain, copies]))
    assert np.flatnonzero(auditing._similar(near)).tolist() == [*range(40), *range(60, 100)]
    assert near.nearest[:40].tolist() == list(range(60, 100))
    kind = np.concatenate([plain, plain[:1] * 3 + 0.6 * random.normal(size=(30, 200)).astype(np.float32)])
    near = label_errors.neighbours(kind)
    assert (near.similarity[60:] > auditing.SIMILAR).all()
    assert not auditing._similar(near).any()
    near = label_errors.neighbours(np.concatenate([kind, kind[70:71] + 0.1]))
    assert np.flatnonzero(auditing._similar(near)).tolist() == [70, 90]


def test_pairs_of_nearest_neighbours_form_groups() -> None:
    groups = auditing._groups(np.array([1, 0, 2, 0, 5, 5]))
    assert len({int(groups[index]) for index in (0, 1, 3)}) == 1
    assert len({int(groups[index]) for index in (4, 5)}) == 1
    assert len(set(groups.tolist())) == 3


def test_clean_applies_the_report_and_undoes_it(planted: Path, found: Audit, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(planted, data, ignore=shutil.ignore_patterns(".imgclf"))
    before = tree(data)
    assert writing.write_report(found, tmp_path / "a.csv") == (0, [])
    assert applying.apply(data, tmp_path / "a.csv") == ([], [])
    assert tree(data) == before
    surest = found.by_check()["label"][0]
    orders, notes = writing.write_report(found, tmp_path / "a.csv", relabel=surest.score - 1e-9)
    assert notes == []
    assert 1 <= orders <= len(found.by_check()["label"])
    with open(tmp_path / "a.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["action"] == "relabel"]
    assert len(rows) == orders
    issues, _notes = applying.apply(data, tmp_path / "a.csv")
    assert {one.path for one in issues} == {row["path"] for row in rows}
    assert (data / surest.suggestion / Path(surest.path).name).exists()
    assert not (data / surest.path).exists()
    undoing.undo(data)
    assert tree(data) == before


def test_an_edited_report_is_kept_beside_the_new_one(found: Audit, tmp_path: Path) -> None:
    report = tmp_path / "a.csv"
    writing.write_report(found, report)
    edited = report.read_bytes().replace(b",keep,", b",quarantine,", 1)
    report.write_bytes(edited)
    orders, notes = writing.write_report(found, report)
    assert (orders, notes) == (0, [f"{report}: the older report requests moves, so it was renamed to {tmp_path / 'a-1.csv'}"])
    assert (tmp_path / "a-1.csv").read_bytes() == edited
    assert b",quarantine," not in report.read_bytes()


def test_command(planted: Path, tmp_path: Path, imgclf: Run) -> None:
    shutil.copytree(planted, tmp_path / "data", symlinks=True)
    done = imgclf("audit", "data", "--image-size", 64, "--report", "a.csv", "--html", "a.html", "--relabel", 0.9)
    assert done.returncode == 0, done.stderr
    assert "120 images; issues: label " in done.stdout
    assert re.search(r"with \d+ moves?; carry them out with `imgclf clean data --apply a.csv`", done.stderr)
    done = imgclf("audit", "data", "--image-size", 64, "--report", "b.csv")
    words = "write quarantine or relabel into its `action` column, then run `imgclf clean data --apply b.csv`"
    assert f"wrote b.csv; {words}" in done.stderr
    page = (tmp_path / "a.html").read_text()
    assert "wrong-dots-0.png" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    listed = as_described("audit", json.loads(imgclf("audit", "data", "--image-size", 64, "--json").stdout))
    assert listed["images"] == 120
    assert {one["check"] for one in listed["issues"]} <= set(AUDIT_CHECKS)
    for options, words in (
        (["--model", "cnn"], "'cnn' is not one of 'efficientnet-lite0'"),
        (["--relabel", 0.9], "needs --report or --html"),
        (["--image-size", 8], "--image-size must be a whole number, 32 to 1024"),
    ):
        done = imgclf("audit", "data", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_too_few_images_are_an_error(tmp_path: Path) -> None:
    for number in range(6):
        write(
            tmp_path / "data" / ("a" if number % 2 else "b") / f"{number}.png",
            preprocess.encode(texture("dots", number), ".png"),
        )
    with pytest.raises(ImgclfError, match="too few images; an audit needs at least 20"):
        auditing.audit(tmp_path / "data", AuditConfig(image_size=32))
    with pytest.raises(UsageError, match=r"--model must be one of efficientnet-lite0, .*, not 'cnn-small'"):
        auditing.audit(tmp_path / "data", AuditConfig("cnn-small"))


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def clouds(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return (random.normal(0, 1, (classes, 30))[labels] * 1.5 + random.normal(0, 1, (count, 30))).astype(np.float32), labels


def test_held_out_probabilities_come_from_a_classifier_without_the_group() -> None:
    """The features are noise, in pairs of copies. If a pair were divided between folds, the copy would reveal the label."""
    random = np.random.default_rng(0)
    half = random.normal(size=(150, 60)).astype(np.float32)
    features, labels = np.concatenate([half, half]), np.tile(random.integers(0, 2, 150), 2)
    pairs = np.tile(np.arange(150), 2)
    together = label_errors.held_out_probabilities(features, labels, pairs)
    apart = label_errors.held_out_probabilities(features, labels, np.arange(300))
    assert np.mean(together.argmax(axis=1) == labels) < 0.6
    assert np.mean(apart.argmax(axis=1) == labels) > 0.65
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-12)


def test_held_out_probabilities_are_calibrated() -> None:
    features, labels = clouds(2000, 4)
    predicted = label_errors.held_out_probabilities(features, labels, np.arange(2000))
    assert np.mean(predicted.argmax(axis=1) == labels) > 0.95
    assert predicted.max(axis=1).mean() == pytest.approx(np.mean(predicted.argmax(axis=1) == labels), abs=0.03)


def test_held_out_probabilities_equal_ridge_regression_of_scikit_learn() -> None:
    """The reference keeps the scores of all penalties in memory, as in the formulas."""
    random = np.random.default_rng(4)
    features, labels = clouds(240, 7)
    labels = np.where(random.random(240) < 0.2, random.integers(0, 7, 240), labels)
    groups = np.arange(240) // 2
    values = (features - features.mean(axis=0, dtype=np.float64)) / (features.std(axis=0, dtype=np.float64) + 1e-6)
    targets, fold_of, found = np.eye(7)[labels], assign_folds(labels, groups, 5, 0), []
    for penalty in np.geomspace(1e-3, 1e2, 11):
        scores = np.zeros((240, 7))
        for fold in range(5):
            inside = fold_of != fold
            model = Ridge(alpha=penalty * inside.sum()).fit(values[inside], targets[inside])
            scores[~inside] = model.predict(values[~inside])
        for temperature in np.geomspace(0.02, 2, 40):
            powers = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
            predicted = powers / powers.sum(axis=1, keepdims=True)
            found.append((-np.log(predicted[np.arange(240), labels]).mean(), predicted))
    expected = min(found, key=lambda one: one[0])[1]
    np.testing.assert_allclose(label_errors.held_out_probabilities(features, labels, groups), expected, atol=1e-9)


def test_memory_does_not_grow_with_images_times_classes() -> None:
    """4,000 images of 200 classes: one set of scores takes 6 MB, the scores of all penalties 70 MB."""
    features, labels = clouds(4000, 200)
    tracemalloc.start()
    near, _alike, errors = auditing.compare(features, labels, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48e6, f"{peak / 1e6:.0f} MB, including 16 MB for a block of similarities"
    assert len(near.nearest) == len(errors.ranking) == 4000


@pytest.mark.parametrize("seed", range(3))
def test_the_block_size_does_not_change_the_result(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(500, 5, seed)
    whole = auditing.compare(features, labels, 0)
    monkeypatch.setattr(label_errors, "_ROWS", 37)
    monkeypatch.setattr(label_errors, "_BLOCK", 60e3)
    for one, other in zip(whole, auditing.compare(features, labels, 0), strict=True):
        values = [(one, other)] if isinstance(one, np.ndarray) else zip(*map(dataclasses.astuple, (one, other)), strict=True)
        for first, second in values:
            np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_ranked_first(seed: int) -> None:
    features, labels = clouds(1000, 3, seed)
    random = np.random.default_rng(seed)
    flipped = random.choice(1000, 50, replace=False)
    given = labels.copy()
    given[flipped] = (labels[flipped] + random.integers(1, 3, 50)) % 3
    errors = label_errors.label_errors(label_errors.held_out(features, given, np.arange(1000)), given)
    assert len(set(errors.ranking[:70].tolist()) & set(flipped.tolist())) >= 45
    found = np.flatnonzero(errors.wrong)
    assert len(set(found.tolist()) & set(flipped.tolist())) >= 40
    assert len(found) <= 75
    assert np.mean(errors.suggested[flipped] == labels[flipped]) > 0.9
    assert sorted(errors.ranking.tolist()) == list(range(1000))


def test_confident_learning_uses_the_mean_confidence_of_each_class_as_threshold() -> None:
    """Computed by hand: thresholds 0.8 (mean of 0.9, 0.9, 0.6) and 0.75. The third image reaches neither of them."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]])
    errors = label_errors.label_errors(probabilities.__getitem__, np.array([0, 0, 0, 1, 1, 1]))
    assert not errors.wrong.any()
    errors = label_errors.label_errors(np.vstack([probabilities, [[0.05, 0.95]]]).__getitem__, np.array([0, 0, 0, 1, 1, 1, 0]))
    assert np.flatnonzero(errors.wrong).tolist() == [6]
    assert errors.ranking[0] == 6
    assert errors.suggested.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_neighbours_equal_the_full_similarity_matrix() -> None:
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (2100, 8)).astype(np.float32)
    features[:, 0] += 20
    features[7] = features[2050] * 1.001
    features[3] = features.mean(axis=0) + np.array([0, 0, 0, 0, 0, 0, 0, 60], np.float32)
    near = label_errors.neighbours(features)
    assert near.nearest[7] == 2050
    assert near.nearest[2050] == 7
    assert near.similarity[7] == pytest.approx(1, abs=1e-4)
    plain = features - features.mean(axis=0)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    alike = plain @ plain.T
    np.fill_diagonal(alike, -2)
    np.testing.assert_array_equal(near.nearest, alike.argmax(axis=1))
    far = 1 - np.sort(alike, axis=1)[:, -10:].mean(axis=1)
    middle = np.median(far)
    np.testing.assert_allclose(near.outlier_score, (far - middle) / np.median(np.abs(far - middle)), rtol=1e-3, atol=1e-3)

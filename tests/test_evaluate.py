"""Test evaluate: metrics on the right images, equal to those of Keras and of predict."""

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, photo, with_temperature, write

from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data.manifest import read_manifest
from imgclf.evaluate.evaluating import evaluate
from imgclf.evaluate.gates import gates
from imgclf.evaluation import calibration
from imgclf.images import header, preprocess
from imgclf.models.bundle import Bundle
from imgclf.predict import predict


def run_of(project: Path) -> Bundle:
    return Bundle.load(project / "runs" / "toy")


def test_metrics_equal_those_of_keras_on_the_test_set(project: Path) -> None:
    import keras

    run = run_of(project)
    result = evaluate(run, project / "data")
    rows = [row for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    assert [p["path"] for p in result.predictions] == [row.path for row in rows]
    assert result.images == len(rows) == 9
    network = keras.models.load_model(run.path / "model.keras")
    pixels = np.stack([preprocess.load(run.preprocessing, project / "data" / row.path) for row in rows]).astype(np.float32)
    labels = np.eye(3)[[run.class_names.index(row.label) for row in rows]]
    calibrated = calibration.apply_temperature(network.predict(pixels, verbose=0).astype(np.float64), run.temperature)
    measured = keras.metrics.CategoricalCrossentropy(), keras.metrics.CategoricalAccuracy(), keras.metrics.F1Score("macro")
    loss, accuracy, f1 = (float(metric(labels, calibrated)) for metric in measured)
    assert result.loss == pytest.approx(loss, abs=1e-5)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.macro_f1 == pytest.approx(f1)
    assert result.confusion.sum(axis=1).tolist() == [3, 3, 3]
    assert result.interval[0] <= result.accuracy <= result.interval[1]


def test_evaluate_and_predict_give_the_same_predictions(project: Path) -> None:
    run = run_of(project)
    result = evaluate(run, project / "data", "val")
    paths = [str(project / "data" / p["path"]) for p in result.predictions]
    for row, record in zip(result.predictions, predict(run, paths), strict=True):
        assert (row["predicted"], row["probability"]) == (record.label, record.probability)


def test_results_are_written_into_the_run(project: Path) -> None:
    result = evaluate(run_of(project), project / "data")
    run = project / "runs" / "toy"
    written = json.loads((run / "evaluation-test.json").read_text())
    assert written == json.loads(json.dumps(result.to_dict()))
    with open(run / "predictions-test.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 9
    assert header.header((run / "confusion-test.png").read_bytes()).format == "PNG"


def test_calibration_is_fitted_on_the_validation_set_and_used_everywhere(project: Path) -> None:
    """The stored temperature is fitted to the raw predictions on the validation images; every output uses it."""
    known = run_of(project).info.calibration
    with_temperature(project / "runs" / "toy", 1.7)
    run = run_of(project)
    raw = Bundle(run.path, dataclasses.replace(run.info, calibration=dataclasses.replace(known, temperature=1.0)))
    before, after = (evaluate(one, project / "data", "val") for one in (raw, run))
    true = np.array([run.class_names.index(row["label"]) for row in before.predictions])
    paths = [project / "data" / row["path"] for row in before.predictions]
    pixels = [preprocess.load(run.preprocessing, path) for path in paths]
    raw_probabilities = raw.probabilities(pixels)
    assert known.fitted == pytest.approx(calibration.fit_temperature(true, raw_probabilities), rel=1e-6)
    assert known.temperature == (known.fitted if known.gain > 0 else 1.0)
    kept = calibration.apply_temperature(raw_probabilities, known.temperature)
    assert known.error_after == pytest.approx(calibration.calibration_error(true, kept))
    np.testing.assert_allclose(run.probabilities(pixels), calibration.apply_temperature(raw_probabilities, 1.7), atol=1e-12)
    assert [one["predicted"] for one in before.predictions] == [one["predicted"] for one in after.predictions]
    assert after.uncalibrated_error == pytest.approx(before.calibration_error, abs=1e-6)
    assert known.images == 12
    assert known.error_before == pytest.approx(before.calibration_error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy=0.95", [("accuracy", 0.95)]),
        (" f1 = .9 , recall[cat]=1,", [("f1", 0.9), ("recall[cat]", 1.0)]),
        ("precision[a, b=c]=0,top2=0.5", [("precision[a, b=c]", 0.0), ("top2", 0.5)]),
    ],
)
def test_gates_are_parsed(text: str, expected: list) -> None:
    assert [(gate.name, gate.least) for gate in gates(text, ["cat", "dog", "a, b=c"])] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write METRIC=MIN"),
        ("accuracy", "write METRIC=MIN"),
        ("accuracy=95", "MIN is 0 to 1"),
        ("accuracy=nan", "MIN is 0 to 1"),
        ("accuracy=0.9;f1=0.9", "write METRIC=MIN"),
        ("loss=0.5", "metrics are accuracy, f1"),
        ("recall=0.5", "for one class precision[CLASS]"),
        ("accuracy[cat]=0.5", "write METRIC=MIN"),
        ("recall[cow]=0.5", "recall[cow]: no such class; the classes are cat, dog"),
        ("top2=0.5", "always 1 with 2 classes"),
        ("accuracy=0.9 f1=0.9", "write METRIC=MIN"),
    ],
)
def test_invalid_gates_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        gates(text, ["cat", "dog"])
    assert words in str(error.value)


def test_fail_under_sets_the_exit_code(project: Path, imgclf: Run) -> None:
    """The exit code is 1 if a metric is below its minimum; all metrics are still shown."""
    result = evaluate(run_of(project), project / "data")
    low = min(result.classes, key=lambda score: score.recall)
    minima = f"accuracy={result.accuracy - 1e-6},f1={result.macro_f1 - 1e-6},recall[{low.name}]={low.recall - 1e-6}"
    done = imgclf("evaluate", "data", "--fail-under", minima if low.recall else "accuracy=0")
    assert done.returncode == 0, done.stderr
    assert "met: accuracy " in done.stderr
    done = imgclf("evaluate", "data", "--fail-under", "auc=0,accuracy=1", "--json")
    assert done.returncode == (0 if result.accuracy == 1 else 1)
    assert json.loads(done.stdout)["macro_f1"] == pytest.approx(result.macro_f1)
    done = imgclf("evaluate", "data", "--fail-under", "acuracy=1")
    assert (done.returncode, done.stdout) == (2, "")


def test_metrics_that_are_undefined_are_null(project: Path, imgclf: Run) -> None:
    """A folder with images of only one class has no ROC curve."""
    for index in range(3):
        write(project / "other" / "red" / f"{index}.png", encoded(photo(index), "PNG"))
    done = imgclf("evaluate", "other", "--json")
    assert json.loads(done.stdout, parse_constant=pytest.fail)["auc"] is None
    done = imgclf("evaluate", "other")
    assert "ROC-AUC and average precision are undefined: all images are of one class" in done.stdout
    done = imgclf("evaluate", "other", "--fail-under", "auc=0.1")
    assert done.returncode == 1


def test_a_class_without_images_is_named_and_does_not_fail_a_gate(project: Path, imgclf: Run) -> None:
    """Two of three classes, and only correctly predicted images: F1 is 1, as in scikit-learn."""
    right = [
        one for one in evaluate(run_of(project), project / "data", "train").predictions if one["label"] == one["predicted"]
    ]
    there = sorted({one["label"] for one in right})[:2]
    assert len(there) == 2
    for one in right:
        if one["label"] in there:
            shutil.copy(project / "data" / one["path"], write(project / "other" / one["path"], b""))
    done = imgclf("evaluate", "other", "--json", "--fail-under", "accuracy=1,f1=1,auc=0.5,average_precision=0.5")
    found = json.loads(done.stdout)
    assert (done.returncode, found["accuracy"], found["macro_f1"]) == (0, 1, 1)
    assert found["macro_f1_interval"] == found["interval"]
    (absent,) = set(found["class_names"]) - set(there)
    assert any(note.startswith(f"classes without images here: {absent}; ROC-AUC and") for note in found["notes"])


def test_html_page(project: Path, imgclf: Run) -> None:
    """The page is self-contained, shows every error, escapes names, and overwrites no other file."""
    odd = project / "data" / "red" / "<b>&'.png"
    rows = read_manifest(project / "runs/toy/split.csv").rows
    wrong = next(row.path for row in rows if row.split == "test" and row.label == "green")
    shutil.copytree(project / "data", project / "other")
    shutil.copy(project / "data" / wrong, project / "other" / "red" / odd.name)
    done = imgclf("evaluate", "other", "--split", "test", "--html", "page.html")
    shutil.rmtree(project / "other" / "green")
    shutil.rmtree(project / "other" / "blue")
    done = imgclf("evaluate", "other", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    page = (project / "page.html").read_text()
    document = json.loads((project / "runs/toy/evaluation-other-other.json").read_text())
    assert f"<strong>{document['accuracy']:.1%}</strong>" in page
    assert "&lt;b&gt;&amp;&#x27;.png" in page
    assert "<b>&'" not in page
    assert "http" not in page.replace("http-equiv", "")
    wrong_ones = document["images"] - round(document["accuracy"] * document["images"])
    assert page.count("data:image/jpeg;base64,") == 2 * wrong_ones > 0  # the image and its saliency map
    write(project / "mine.html", b"<p>mine")
    done = imgclf("evaluate", "data", "--html", "mine.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert (project / "mine.html").read_bytes() == b"<p>mine"


def test_renamed_and_relabelled_images_of_the_split_are_scored(project: Path) -> None:
    """As in training, they count under their new names and in the class of their new folder."""
    run = Bundle.load(project / "runs/toy")
    before = evaluate(run, project / "data")
    rows = [row for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    for row in rows[1:]:
        place = project / "data" / row.path
        place.rename(place.with_name(f"renamed {place.name}"))
    (project / "data" / rows[0].path).rename(project / "data" / "red" / "was blue.png")
    after = evaluate(run, project / "data")
    assert (before.images, after.images) == (9, 9)
    assert rows[0].label == "blue"
    assert [(one["path"], one["label"]) for one in after.predictions if one["path"] == "red/was blue.png"] == [
        ("red/was blue.png", "red")
    ]
    assert after.notes[0].startswith("images renamed or moved since the split: 9 (")
    assert sum(score.support for score in after.classes) == 9
    shutil.rmtree(project / "data" / "blue")
    for path in [*(project / "data").glob("*/renamed *"), project / "data/red/was blue.png"]:
        path.unlink()
    with pytest.raises(ImgclfError, match="no image to evaluate: the test set of the run's own split; images of "):
        evaluate(run, project / "data")


def test_the_label_in_the_split_takes_precedence_over_the_folder(project: Path, imgclf: Run) -> None:
    """The split may come from another tool."""
    split = project / "data/.imgclf/split.csv"
    lines = split.read_text().splitlines()
    victim = next(number for number, line in enumerate(lines) if ",blue,test," in line)
    lines[victim] = lines[victim].replace(",blue,", ",red,")
    split.write_text("\n".join([*lines, ""]))
    done = imgclf("train", "--epochs", 1, "--batch-size", 8, "--run-dir", "runs/other")
    assert done.returncode == 0, done.stderr
    result = evaluate(Bundle.load(project / "runs/other"))
    assert [score.support for score in result.classes] == [2, 3, 4]


def test_two_folders_of_the_same_name_have_separate_results(project: Path, imgclf: Run) -> None:
    for place in ("monday", "tuesday"):
        shutil.copytree(project / "data" / "red", project / place / "batch" / "red")
    for place, name in (("monday", "other-batch"), ("tuesday", "other-batch-2"), ("monday", "other-batch")):
        done = imgclf("evaluate", "batch", "--run", project / "runs/toy", cwd=project / place)
        assert f"runs/toy/evaluation-{name}.json" in done.stderr
        assert json.loads((project / f"runs/toy/evaluation-{name}.json").read_text())["data"] == str(project / place / "batch")
    assert len(list((project / "runs/toy").glob("predictions-*"))) == 2


def test_measurements_and_slices(project: Path) -> None:
    """Every prediction contains the size, brightness and blur of its image; folders within a class are slices."""
    write(project / "other" / "red" / "cam1" / "a.png", encoded(photo(1, 60, 40), "PNG"))
    for index in range(12):
        shutil.copy(project / f"data/red/{index:03d}.png", write(project / "other/red/cam2" / f"{index}.png", b""))
    result = evaluate(run_of(project), project / "other")
    assert result.predictions[0]["size"] == 40
    assert 0 < result.predictions[0]["brightness"] < 1
    assert {(one.by, one.value, one.images) for one in result.slices if one.by == "folder"} == {("folder", "cam2", 12)}


def test_a_slice_is_a_folder_within_a_class_whatever_its_name(project: Path) -> None:
    """A folder `test` within a class is a slice; the folder `Training` above the classes is not."""
    for subset in ("Training", "Validation"):
        for name in ("test", "red"):
            for index in range(6):
                shutil.copy(
                    project / f"data/red/{index:03d}.png",
                    write(project / "other" / subset / "red" / name / f"{index}.png", b""),
                )
    found = evaluate(run_of(project), project / "other").slices
    assert {(one.value, one.images) for one in found if one.by == "folder"} == {("test", 12), ("red", 12)}


def test_the_split_of_the_run_is_used_even_if_the_folder_has_another(project: Path) -> None:
    from imgclf.core.config import SplitConfig
    from imgclf.split import splitting

    before = evaluate(run_of(project), project / "data")
    splitting.split(project / "data", SplitConfig(seed=9), force=True)
    assert evaluate(run_of(project), project / "data").predictions == before.predictions


def test_a_score_on_the_training_set_has_a_warning(project: Path) -> None:
    result = evaluate(run_of(project), project / "data", "train")
    assert result.images == 51
    assert result.notes == (
        "the model was trained on these images: the score measures memorization, not accuracy on new images",
    )


def test_damaged_missing_and_changed_images_are_named(project: Path) -> None:
    run = run_of(project)
    rows = [row for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    damaged, gone, changed = (project / "data" / row.path for row in rows[:3])
    damaged.write_bytes(damaged.read_bytes()[:300])
    gone.unlink()
    changed.write_bytes(encoded(photo(1), "PNG"))
    result = evaluate(run, project / "data")
    assert result.images == 7
    assert result.skipped == ((rows[0].path, "damaged or truncated PNG: it cannot be decoded to the end"),)
    assert result.notes[0] == f"images of the test set that are no longer in {project / 'data'}: 1 of 9"
    assert result.notes[1] == f"images that have changed since the run's split was made: 2, first {rows[0].path}"


def test_training_images_among_the_test_images_are_counted(project: Path) -> None:
    run = run_of(project)
    rows = read_manifest(run.path / "split.csv").rows
    trained = next(row for row in rows if row.split == "train")
    tested = next(row for row in rows if row.split == "test")
    shutil.copy(project / "data" / trained.path, project / "data" / tested.path)
    notes = evaluate(run, project / "data").notes
    assert "images that were in the run's training set: 1 of 9; the score is too optimistic" in notes


def test_validation_images_are_counted(project: Path) -> None:
    """With --split val, without validation images, and in another folder."""
    run = run_of(project)
    words = "images that were in the run's validation set, which chose its best epoch: {}; the score is too optimistic"
    assert evaluate(run, project / "data").notes == ()
    assert evaluate(run, project / "data", "val").notes == (words.format("12 of 12"),)
    rows = read_manifest(run.path / "split.csv").rows
    chose = next(row for row in rows if row.split == "val")
    for path in (chose.path, next(row for row in rows if row.split == "test").path):
        shutil.copy(project / "data" / path, write(project / "other" / path, b""))
    assert evaluate(run, project / "other").notes[0] == words.format("1 of 2")


def test_skipped_files_are_named_only_for_the_scored_subset(project: Path) -> None:
    for subset in ("train", "test"):
        shutil.copytree(project / "data" / "red", project / "other" / subset / "red")
        write(project / "other" / subset / "red" / "notes.txt", b"milk")
    assert evaluate(run_of(project), project / "other", "test").skipped == (("test/red/notes.txt", "not an image"),)
    assert len(evaluate(run_of(project), project / "other").skipped) == 2


def test_another_folder(project: Path) -> None:
    for index in range(3):
        write(project / "other" / "red" / f"{index}.png", encoded(photo(index), "PNG"))
    shutil.copy(project / "data" / "green" / "000.png", project / "other" / "red" / "wrong.png")
    write(project / "other" / "red" / "notes.txt", b"milk")
    result = evaluate(run_of(project), project / "other")
    assert (result.name, result.images) == ("other-other", 4)
    assert result.on == f"all images of {project / 'other'}"
    assert result.skipped == (("red/notes.txt", "not an image"),)
    assert result.confusion.sum(axis=1).tolist() == [0, 0, 4]


def test_a_moved_data_folder_counts_as_the_data_of_the_run(project: Path) -> None:
    os.rename(project / "data", project / "moved")
    assert evaluate(run_of(project), project / "moved").on == "the test set of the run's own split"


def test_errors(project: Path) -> None:
    write(project / "other" / "purple" / "1.png", encoded(photo(1), "PNG"))
    with pytest.raises(ImgclfError, match="class purple is unknown to this run; its classes are blue, green, red"):
        evaluate(run_of(project), project / "other")
    with pytest.raises(ImgclfError, match="nowhere: no such folder"):
        evaluate(run_of(project), project / "nowhere")
    with pytest.raises(ImgclfError, match="it has no test folder; omit --split"):
        evaluate(run_of(project), project / "other", "test")


def test_images_beyond_the_runs_split_are_counted(project: Path) -> None:
    for index in range(5):
        write(project / "data" / "red" / f"more-{index}.png", encoded(photo(index), "PNG"))
    result = evaluate(run_of(project), project / "data")
    assert result.images == 9
    assert f"files in {project / 'data'} that are not in the run's split and were not scored: 5" in result.notes


def test_a_lost_split_or_data_folder_is_named(project: Path) -> None:
    with pytest.raises(ImgclfError, match="the run's data folder no longer exists"):
        os.rename(project / "data", project / "moved")
        run = run_of(project)
        run.info = dataclasses.replace(run.info, data=dataclasses.replace(run.info.data, path=str(project / "data")))
        evaluate(run)
    table = project / "runs" / "toy" / "split.csv"
    table.write_text(table.read_text().replace(",test,", ",train,", 1))
    with pytest.raises(ImgclfError, match=r"split.csv: broken run: the split was changed after training"):
        evaluate(run_of(project), project / "moved")
    (project / "runs" / "toy" / "split.csv").unlink()
    with pytest.raises(ImgclfError, match=r"split.csv: broken run: the file is missing"):
        evaluate(run_of(project), project / "moved")


def test_command(project: Path, imgclf: Run) -> None:
    done = imgclf("evaluate", "data")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "runs/toy on the test set of the run's own split: 9 images"
    assert lines[1].startswith("accuracy ")
    done = imgclf("evaluate", "data", "--split", "val", "--json")
    document = json.loads(done.stdout)
    assert (document["name"], document["images"], document["class_names"]) == ("val", 12, ["blue", "green", "red"])
    done = imgclf("evaluate", "data", "--split", "tset")
    assert done.returncode == 2


def test_a_class_folder_added_later_is_named_and_its_images_are_not_counted(project: Path) -> None:
    shutil.copytree(project / "data" / "red", project / "data" / "pink")
    shutil.copy(project / "data" / "red" / "000.png", project / "data" / "red" / "new.png")
    notes = evaluate(Bundle.load(project / "runs" / "toy"), project / "data").notes
    assert any(
        note.startswith("class folders that this run was not trained on (not scored): pink (24 images); ") for note in notes
    )
    assert any("files in" in note and note.endswith("not in the run's split and were not scored: 1") for note in notes)


def test_a_class_name_in_another_unicode_form_is_the_same_class() -> None:
    (gate,) = gates("recall[e\u0301]=0.5", ["b", "\u00e9"])
    assert gate.name == "recall[\u00e9]"

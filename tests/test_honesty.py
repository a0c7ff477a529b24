"""Every accuracy has its 95% interval and the baseline, and a run that is not better than the baseline is named."""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, encoded, photo, write
from tiny import finish, tiny_run

from imgclf.compare import compare
from imgclf.core.config import SplitConfig, TrainConfig
from imgclf.data.manifest import read_manifest
from imgclf.evaluate.evaluating import evaluate
from imgclf.evaluation import grouped
from imgclf.evaluation.baseline import baseline, largest
from imgclf.evaluation.intervals import wilson_interval
from imgclf.models.bundle import Bundle
from imgclf.split import splitting
from imgclf.train import Silent, train

BETWEEN = r"\(?(95% interval )?[01]\.\d\d+( to |-)[01]\.\d\d+"


@pytest.mark.parametrize("seed", range(5))
def test_the_baseline_equals_the_dummy_classifier_of_scikit_learn(seed: int) -> None:
    """DummyClassifier(most_frequent) predicts the largest class of the training labels, and the first of equal ones."""
    from sklearn.dummy import DummyClassifier

    random = np.random.default_rng(seed)
    names = np.array(["b", "a", "c d", "é"])
    train = random.choice(names, 40) if seed else np.array(["b", "a", "a", "b", "c d"])
    scored = random.choice(names, 25)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(train), 1)), train)
    name = largest({one: int((train == one).sum()) for one in names})
    found = baseline(name, int((scored == name).sum()), 0, len(scored))
    assert name == dummy.predict([[0]])[0]
    assert found.accuracy == dummy.score(np.zeros((len(scored), 1)), scored)
    assert found.interval == wilson_interval(round(found.accuracy * 25), 25)


@pytest.mark.parametrize(
    ("of_class", "right", "total", "verdict"),
    [
        (720, 300, 1000, "worse"),  # imbalanced: accuracy 0.30, and 0.72 for the largest class
        (720, 690, 1000, "worse"),
        (720, 730, 1000, "not better"),
        (720, 720, 1000, "not better"),
        (720, 760, 1000, "better"),
        (5, 7, 10, "not better"),  # 7 of 10 is not significant
        (5, 9, 10, "better"),
        (10, 10, 10, "not better"),
    ],
)
def test_verdict_and_warning(of_class: int, right: int, total: int, verdict: str) -> None:
    found = baseline("a", of_class, right, total)
    text = found.warning("accuracy", right / total, wilson_interval(right, total), "do this")
    assert found.verdict == verdict
    assert text.startswith("Warning: ") == (verdict != "better") == bool(text)
    if text and of_class < total:
        assert f"accuracy {right / total:.4f} (" in text
        assert "do this" in text or "score more images" in text
    if (of_class, right) == (720, 300):
        assert text == (
            "Warning: accuracy 0.3000 (0.272 to 0.329) is worse than the baseline: always predicting a scores 0.7200 on "
            "the same images; do this; with imbalanced classes, check F1 and the recall of each class"
        )


@pytest.mark.parametrize(
    ("model", "weights", "class_weights", "words"),
    [
        ("cnn", "imagenet", [0.5, 2.0], "try `imgclf train 'my photos' --model efficientnet-lite0`, or `--class-weights none`"),
        ("cnn-large", "imagenet", None, "try `imgclf train 'my photos' --model efficientnet-lite0`"),
        ("vgg16", "none", None, "try `imgclf train 'my photos' --model efficientnet-lite0`"),
        ("vgg16", "/w.h5", None, "search for wrong labels with `imgclf audit 'my photos'`, or add images"),
        ("efficientnet-lite0", "imagenet", [1.0], "search for wrong labels with `imgclf audit 'my photos'`, or add images"),
    ],
)
def test_the_next_step_is_an_untried_one(
    model: str, weights: str, class_weights: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = Bundle.load(tiny_run(tmp_path / "run")).info
    config = dataclasses.replace(info.config, weights=weights)
    for folder, shown in (("my photos", "'my photos'"), ("data", "data")):
        data = dataclasses.replace(info.data, path=str(tmp_path / folder))
        found = dataclasses.replace(info, model=model, config=config, class_weights=class_weights, data=data)
        assert found.next_step == words.replace("'my photos'", shown)


def test_the_note_on_groups() -> None:
    found = grouped.count(["p1", "p2", "p1", "p3", "p1"])
    assert found == grouped.Groups(5, 3, 3)
    words = "5 images in 3 groups of up to 3: the intervals treat all images as independent, so they are overconfident"
    assert grouped.note(found, "the intervals") == words
    assert grouped.note(grouped.count(["a", "b"]), "the intervals") == grouped.note(None, "the intervals") == ""


class Recorder(Silent):
    about: Sequence[str] = ()

    def started(self, run_dir: Path, about: Sequence[str]) -> None:
        self.about = about


# -- outputs of commands ----------------------------------------------------------------------------------------------------


def permuted(project: Path, name: str) -> Bundle:
    """Copy the run `toy` with permuted class names, so that it is wrong wherever `toy` is right."""
    place = shutil.copytree(project / "runs" / "toy", project / "runs" / name)
    info: dict[str, Any] = json.loads((place / "bundle.json").read_bytes())
    info["class_names"] = [*info["class_names"][1:], info["class_names"][0]]
    scores = info["metrics"]
    worse = baseline(scores["val_baseline"]["class_name"], 4, 0, 12)
    scores |= {"val_accuracy": 0.0, "val_interval": wilson_interval(0, 12), "val_baseline": dataclasses.asdict(worse)}
    return finish(place, info)


def numbers_alone(shown: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the accuracies and rates of a JSON document that lack their interval or baseline."""
    found: list[str] = []
    for key, value in shown.items():
        if isinstance(value, Mapping):
            found += numbers_alone(value, f"{path}{key}.")
        elif isinstance(value, list):
            for one in (one for one in value if isinstance(one, Mapping)):
                found += numbers_alone(one, f"{path}{key}[].")
        elif key == "train_accuracy" or not isinstance(value, float):  # measured during training: not a score
            continue
        elif re.fullmatch(r"(val_|test_|held_out_)?accuracy(_before|_after)?|agreement|precision|recall", key):
            stem = key.replace("held_out_", "").replace("accuracy", "interval") if "accuracy" in key else f"{key}_interval"
            low, high = shown.get(stem) or (2, 2)
            if not low <= value <= high:
                found.append(f"{path}{key} has no interval")
            beside = {"baseline", stem.replace("interval", "baseline")} & set(shown)
            if "accuracy" in key and not beside and not {"verdict", "is_worse"} & set(shown):
                found.append(f"{path}{key} has no baseline")
    return found


EVERY = [
    ["evaluate", "data", "--run", "permuted"],
    ["compare", "permuted", "other", "data"],
    ["runs", "list"],
    ["info", "permuted"],
]


@pytest.mark.parametrize("command", EVERY, ids=lambda command: " ".join(command[:2]))
def test_every_accuracy_has_its_interval_and_baseline(command: list[str], project: Path, imgclf: Run) -> None:
    """This holds for text and for JSON. Every command also names a run that is worse than the baseline."""
    permuted(project, "permuted"), permuted(project, "other")
    shown = imgclf(*command)
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout + shown.stderr
    for line in text.splitlines():
        if re.search(r"\baccuracy [01]\.\d{4}", line):
            assert re.search(rf"accuracy [01]\.\d{{4}} {BETWEEN}", line), line
    assert "baseline" in text
    if command[0] not in ("info", "runs") or command[1] == "list":
        assert "Warning: " in shown.stderr, shown.stderr
        assert "permuted" in shown.stderr or "always predicting blue scores 0.3333 on the same images; try `" in shown.stderr
    document = json.loads(imgclf(*command, "--json").stdout)
    documents = document if isinstance(document, list) else [document]
    assert [problem for one in documents for problem in numbers_alone(one)] == []
    assert '"worse"' in json.dumps(documents)


def test_numbers_alone_finds_missing_intervals() -> None:
    """The helper of the test above detects what it must detect."""
    assert numbers_alone({"accuracy": 0.5}) == ["accuracy has no interval", "accuracy has no baseline"]
    assert numbers_alone({"a": [{"recall": 0.5, "recall_interval": [0.6, 0.7]}]}) == ["a[].recall has no interval"]
    assert numbers_alone({"held_out_accuracy": 0.5, "interval": [0.4, 0.6], "baseline": {}}) == []


def test_a_minimum_below_the_baseline_is_named(project: Path, imgclf: Run) -> None:
    for least, warned in ((0.33, True), (0.4, False)):
        done = imgclf("evaluate", "data", "--fail-under", f"accuracy={least},recall[red]=0,top2=0,auc=0")
        assert (f"the minimum accuracy={least} is not above the baseline" in done.stderr) == warned
        for name in ("accuracy", r"recall\[red\]", "top2"):
            assert re.search(rf"met: {name} [01]\.\d{{4}} {BETWEEN}", done.stderr), done.stderr


def test_images_of_one_class_get_a_warning_about_the_baseline(project: Path, imgclf: Run) -> None:
    for index in range(3):
        write(project / "other" / "blue" / f"{index}.png", encoded(photo(index), "PNG"))
    done = imgclf("evaluate", "other")
    assert "Warning: all scored images are of class blue, the largest in training" in done.stderr
    assert json.loads(imgclf("evaluate", "other", "--json").stdout)["groups"] is None


def test_groups_are_noted_wherever_intervals_are_shown(project: Path) -> None:
    """The user names groups: four images of each class belong to one subject."""
    groups = {
        path.relative_to(project / "data").as_posix(): f"{path.parent.name}-{int(path.stem) // 4}"
        for path in (project / "data").rglob("*.png")
    }
    write(project / "groups.csv", "\n".join(["path,group", *map(",".join, groups.items()), ""]).encode())
    splitting.split(project / "data", SplitConfig(groups=str(project / "groups.csv")), force=True)
    recorder = Recorder()
    config = TrainConfig(epochs=1, batch_size=8, image_size=16, model="cnn-small")
    run = train(project / "data", config, run_dir=project / "runs" / "grouped", listener=recorder)
    assert run is not None
    count = len([row for row in read_manifest(run.path / "split.csv").rows if row.split == "val"])
    counted = {"images": count, "groups": count // 4, "largest": 4}
    assert run.info.metrics.val_groups == grouped.Groups(**counted)
    words = f"{count} images in {count // 4} groups of up to 4: {{}} treat all images as independent, so they are overconfident"
    assert words.format("validation intervals") in recorder.about
    result = evaluate(run, project / "data", "val")
    assert result.to_dict()["groups"] == counted
    assert words.format("the intervals") in result.notes
    again = Bundle.load(shutil.copytree(run.path, project / "runs" / "again"))
    both = compare(run, again, project / "data", "val")
    assert both.to_dict()["groups"] == counted
    assert words.format("the intervals and McNemar's test") in both.notes

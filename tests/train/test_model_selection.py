"""Which of a backbone and a network from scratch promises more, and what a user is told of it."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, photo, write

from imgclf.core.config import TrainConfig
from imgclf.core.errors import UsageError
from imgclf.data import dataset
from imgclf.data.manifest import Manifest, manifest_path, read_manifest
from imgclf.images import preprocess
from imgclf.models import backbones, features
from imgclf.split import splitting
from imgclf.train import Silent, devices, model_selection
from imgclf.train.model_selection import Candidate


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` of two classes that a backbone tells apart at a glance, one file that is broken, and its split."""
    root = tmp_path_factory.mktemp("textures")
    for name in ("noise", "stripes"):
        for index in range(30):
            random = np.random.default_rng((name == "noise", index))
            image = np.full((40, 40, 3), random.integers(80, 170, 3), np.float64)
            if name == "stripes":
                image[:: int(random.integers(3, 6))] += 80
            noisy = np.clip(image + random.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
            write(root / "data" / name / f"{index}.png", preprocess.encode(noisy, ".png"))
    splitting.split(root / "data")
    return root


def manifest(root: Path) -> Manifest:
    return read_manifest(manifest_path(root / "data"))


class Hears(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_backbone_is_judged_by_training_images_alone(textures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, at the backbone's size; those of validation and test are not looked at, and nothing is computed twice."""
    seen = []
    original = features.Extractor.vector
    monkeypatch.setattr(features.Extractor, "vector", lambda self, image: seen.append(image) or original(self, image))
    training = [row for row in manifest(textures).rows if row.split == "train"]
    found = model_selection.try_backbone(textures / "data", manifest(textures), TrainConfig(), Silent())
    assert found is not None
    assert (found.images, found.trained_on) == (len(training), len(training) * 4 // 5)
    assert found.accuracy >= 0.9
    assert len(seen) == len(training)
    assert seen[0].shape == (224, 224, 3)
    again = model_selection.try_backbone(textures / "data", manifest(textures), TrainConfig(), Silent())
    assert again == found
    assert len(seen) == len(training)


def test_each_image_is_decoded_once_and_none_that_is_known(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is damaged since the split is skipped, and looked at again the next time."""
    shutil.copytree(textures / "data", tmp_path / "data", ignore=shutil.ignore_patterns("features", "prepared"))
    damaged = next(row.path for row in manifest(textures).rows if row.split == "train")
    write(tmp_path / "data" / damaged, (tmp_path / "data" / damaged).read_bytes()[:300])
    decoded: list[Path] = []
    original = preprocess.load
    monkeypatch.setattr(preprocess, "load", lambda preprocessing, path: decoded.append(path) or original(preprocessing, path))
    found = model_selection.try_backbone(tmp_path / "data", manifest(tmp_path), TrainConfig(image_size=32), Silent())
    assert found is not None
    assert found.images == len(set(decoded)) - (tmp_path / "data" / damaged in decoded)
    assert len(decoded) == len(set(decoded))
    first = len(decoded)
    assert model_selection.try_backbone(tmp_path / "data", manifest(tmp_path), TrainConfig(image_size=32), Silent()) == found
    assert set(decoded[first:]) <= {tmp_path / "data" / damaged}


def test_a_backbone_is_judged_at_the_size_it_would_have(textures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    original = features.Extractor.vector
    monkeypatch.setattr(features.Extractor, "vector", lambda self, image: seen.add(image.shape) or original(self, image))
    model_selection.try_backbone(textures / "data", manifest(textures), TrainConfig(image_size=32), Silent())
    assert seen == {(32, 32, 3)}


def test_labels_at_random_are_not_learnt(textures: Path, tmp_path: Path) -> None:
    """Held-out accuracy, not accuracy on what was fitted: with labels that mean nothing it is about a half."""
    for index in range(60):
        write(tmp_path / "data" / "ab"[index % 2] / f"{index}.png", preprocess.encode(np.asarray(photo(index, 40, 40)), ".png"))
    splitting.split(tmp_path / "data")
    found = model_selection.try_backbone(tmp_path / "data", manifest(tmp_path), TrainConfig(), Silent())
    assert found is not None
    assert 0.25 < found.accuracy < 0.75


def test_a_sample_has_of_every_class() -> None:
    classes = (("a", 900), ("b", 97), ("c", 3))
    samples = [dataset.Sample(f"{name}/{number}", name) for name, many in classes for number in range(many)]
    training = dataset.Dataset(Path(), tuple(samples), ("a", "b", "c"))
    chosen = model_selection._sample(training, 100, 1)
    assert {name: sum(sample.label == name for sample in chosen) for name in "abc"} == {"a": 90, "b": 10, "c": 3}
    assert len(set(chosen)) == len(chosen)
    assert chosen == model_selection._sample(training, 100, 1)
    assert chosen != model_selection._sample(training, 100, 2)


def test_more_images_help_a_network_from_scratch_more() -> None:
    frozen, scratch = Candidate(90, 100, 80), Candidate(80, 100, 80)
    few, many = (model_selection.expected(frozen, scratch, count) for count in (80, 80_000))
    assert few == pytest.approx((0.9, 0.88))  # a trial is short
    assert many[1] > many[0] > few[0] > few[1]
    assert model_selection.expected(frozen, scratch, 10) == few
    assert model_selection.expected(None, scratch, 80) == pytest.approx((0.0, 0.88))


def test_auto_is_the_backbone_where_that_is_sure(textures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Hears()
    monkeypatch.setattr(model_selection, "GOOD_ENOUGH", 0.9)
    monkeypatch.setattr(model_selection, "try_scratch", None)  # not needed
    machine = devices.choose(None)
    chosen, expected = model_selection.choose(textures / "data", manifest(textures), TrainConfig(model="auto"), machine, heard)
    assert (chosen, expected) == (TrainConfig(model="efficientnet-lite0"), None)
    (line,) = heard.notes
    assert line.startswith("--model auto: efficientnet-lite0; efficientnet-lite0 reaches an accuracy of ")


@pytest.mark.long
def test_auto_tries_both_where_it_is_not(textures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone's score is made low; the trial of a network from scratch is real, and uses training images only."""
    heard = Hears()
    config = TrainConfig(model="auto", batch_size=8)
    monkeypatch.setattr(model_selection, "SHORT_NEEDS", 10)
    monkeypatch.setattr(model_selection, "try_backbone", lambda *_any: Candidate(20, 42, 33))
    machine = devices.choose(None)
    trial = model_selection.try_scratch(textures / "data", manifest(textures), config, machine, Silent())
    training = [row for row in manifest(textures).rows if row.split == "train"]
    assert trial.images + trial.trained_on == len(training)
    assert trial.accuracy >= 0.7
    chosen, expected = model_selection.choose(textures / "data", manifest(textures), config, machine, heard)
    assert (chosen.model, expected) == ("cnn", model_selection.expected(Candidate(20, 42, 33), trial, len(training))[1])
    (line,) = heard.notes
    assert line.startswith("--model auto: cnn; efficientnet-lite0 reaches an accuracy of 0.476 on 42 held-out training images")
    assert "efficientnet-lite0 " in line.partition(" training images: ")[2]
    monkeypatch.setattr(model_selection, "try_backbone", lambda *_any: None)
    assert model_selection.choose(textures / "data", manifest(textures), config, machine, heard)[0].model == "cnn"
    assert heard.notes[1].startswith(
        "--model auto: cnn; too few images for efficientnet-lite0, a short training of cnn reaches an accuracy of "
    )
    assert "efficientnet-lite0 " not in heard.notes[1].partition(" training images: ")[2]


def test_command_auto_and_the_hint(textures: Path, tmp_path: Path, imgclf: Run) -> None:
    shutil.copytree(textures / "data", tmp_path / "data", symlinks=True)
    done = imgclf("train", "--model", "auto", "--epochs", 2, "--image-size", 32, "--run-dir", "chosen")
    assert done.returncode == 0, done.stderr
    assert "--model auto: efficientnet-lite0" in done.stderr
    assert "efficientnet-lite0, frozen: 1,280 features per image" in done.stderr
    for option in ("--summary", "--lr-find"):
        done = imgclf("train", "--model", "auto", option)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--model auto" in done.stderr
    done = imgclf("train", "--model", "auto", "--views", 2)
    assert done.returncode == 2
    assert "--weights, --views and --fine-tune are for pretrained backbones, not for --model auto" in done.stderr


def test_a_hint_names_the_command(textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint appears if the difference is clear, with a time budget too, but not if the user stopped the run.

    After `--model auto`, the hint states that the choice was wrong, since it recommends the model that was rejected.
    """
    from imgclf.train import train

    monkeypatch.setattr(model_selection, "HINT_FROM", 10)
    config = TrainConfig(epochs=1, batch_size=32, image_size=16, model="cnn-small", learning_rate=1e-9)
    heard = Hears()
    short = dataclasses.replace(config, time_budget=0.001)  # spent after the first epoch
    train(textures / "data", short, run_dir=tmp_path / "bad", listener=heard)
    (line,) = [note for note in heard.notes if "pretrained" in note]
    assert f"try `imgclf train {textures / 'data'} --model {backbones.OFFLINE}`" in line

    chosen = dataclasses.replace(config, model="cnn-small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_selection, "choose", lambda *_any: (chosen, 0.97))
        again = Hears()
        train(textures / "data", dataclasses.replace(config, model="auto"), run_dir=tmp_path / "auto", listener=again)
    (wrong,) = [note for note in again.notes if "held-out" in note]
    assert wrong.startswith(
        f"--model auto chose wrong: it expected an accuracy of 0.97 from this network: {backbones.OFFLINE}, frozen, "
        "reaches an accuracy of "
    )
    assert not [note for note in again.notes if "a pretrained network is better" in note]

    def nowhere(_data: Path, _manifest: object, asked: TrainConfig, _listener: object) -> None:
        assert asked.image_size is None  # the command names none
        raise NotADirectoryError(20, "Not a directory", "/cache")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_selection, "try_backbone", nowhere)
        assert train(textures / "data", config, run_dir=tmp_path / "no backbone", listener=Hears()) is not None

    class Stopped(Hears):
        def stop(self) -> bool:
            return True

    for listener, sure in ((Stopped(), 0.95), (Hears(), 0.0)):
        monkeypatch.setattr(model_selection, "GOOD_ENOUGH", sure)
        train(textures / "data", config, run_dir=tmp_path / f"{sure}", listener=listener)
        assert not [note for note in listener.notes if "pretrained" in note]


def test_several_machines_choose_nothing(textures: Path) -> None:
    machine = devices.choose(None)
    machine.workers = 2
    with pytest.raises(UsageError, match="--model auto works on one machine"):
        model_selection.choose(textures / "data", manifest(textures), TrainConfig(model="auto"), machine, Silent())

"""train and the bundle it leaves, on a toy set that a few seconds suffice for."""

import csv
import dataclasses
import errno
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, make_classes, photo, started, write
from described import as_described

from imgclf.cli.train import print_rate_search
from imgclf.cli.train_output import TrainingDisplay
from imgclf.core.config import Preprocessing, Subset, TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.data import file_index, loader, prepared_images
from imgclf.data.manifest import Manifest, Row, load_subsets, manifest_path, read_manifest
from imgclf.evaluation import calibration
from imgclf.images import header, preprocess
from imgclf.models import registry, run_info
from imgclf.models.bundle import Bundle
from imgclf.split import splitting
from imgclf.train import Epoch, RateSearch, Silent, devices, find_rate, improves, loop, patience, resume, train
from imgclf.train.class_weights import class_weights
from imgclf.train.state import TrainingState


def test_a_run_leaves_everything(trained: Path) -> None:
    run = trained / "runs" / "toy"
    names = "bundle.json config.json curves.png history.csv last.keras model.keras model.tflite split.csv"  # no checkpoint
    assert sorted(path.name for path in run.iterdir()) == names.split()
    info = json.loads((run / "bundle.json").read_text())
    manifest = read_manifest(trained / "data" / ".imgclf" / "split.csv")
    assert info["class_names"] == ["blue", "green", "red"]
    assert info["task"] == "categorical"
    assert info["preprocessing"] == {
        "height": 32,
        "width": 32,
        "aspect": "squash",
        "kernel": "area-linear",
        "colour": "rgb",
        "decoder": 2,
    }
    assert info["data"]["split_hash"] == manifest.hash
    assert info["data"]["fingerprint"] == manifest.fingerprint
    assert info["data"]["images"] == {"train": 51, "val": 12}
    assert set(info["packages"]) == {"tensorflow", "keras", "numpy", "ai-edge-litert", "opencv"}
    assert info["litert_difference"] <= 1e-4
    assert read_manifest(run / "split.csv") == manifest
    assert header.header((run / "curves.png").read_bytes()).format == "PNG"
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert info["metrics"]["best_epoch"] == int(best["epoch"])
    assert info["metrics"]["val_accuracy"] == pytest.approx(float(best["val_accuracy"]))


def test_the_saved_model_is_the_best_epoch_and_loads_with_plain_keras(trained: Path) -> None:
    """In a process without imgclf; its loss on the prepared validation pixels is the one recorded for the best epoch."""
    run = trained / "runs" / "toy"
    info = json.loads((run / "bundle.json").read_text())
    view = next((trained / "data/.imgclf/prepared").glob("*/*/val")).parent
    code = f"""
import sys, keras
model = keras.models.load_model({str(run / "model.keras")!r})
load = keras.utils.image_dataset_from_directory
data = load({str(view / "val")!r}, label_mode="categorical", image_size=(32, 32), verbose=False)
print(*model.evaluate(data, verbose=0))
assert "imgclf" not in sys.modules
assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    loss, accuracy = map(float, done.stdout.split())
    assert loss == pytest.approx(info["metrics"]["val_loss"], abs=1e-5)
    assert accuracy == pytest.approx(info["metrics"]["val_accuracy"])


def test_predictions_equal_the_keras_model_on_prepared_pixels(trained: Path) -> None:
    import keras

    run = Bundle.load(trained / "runs" / "toy")
    subsets, _ = load_subsets(trained / "data", read_manifest(run.path / "split.csv"))
    prepared = prepared_images.prepare(trained / "data", {"test": subsets["test"]}, run.preprocessing)
    network = keras.models.load_model(run.path / "model.keras")
    files = sorted(prepared.files["test"])
    fed = loader.Images(prepared, "test").pixels
    raw = network.predict_on_batch(fed.astype(np.float32))
    expected = calibration.apply_temperature(raw.astype(np.float64), run.temperature)
    from imgclf.predict import predict

    paths = [str(trained / "data" / prepared.files["test"][name]) for name in files]
    for row, record in zip(expected, predict(run, paths, top=3), strict=True):
        assert dict(record.top) == pytest.approx(dict(zip(run.class_names, row, strict=True)), abs=1e-5)


def test_two_classes_have_one_sigmoid_unit(tmp_path: Path) -> None:
    import keras

    data = make_classes(tmp_path / "data", {"no": 10, "yes": 10})
    splitting.split(data)
    run = train(data, TrainConfig(epochs=1, batch_size=4), run_dir=tmp_path / "run")
    assert run.info.task == "binary"
    network = keras.models.load_model(run.path / "model.keras")
    assert network.output_shape == (None, 1)
    pixels = preprocess.load(run.preprocessing, data / "yes" / "000.png")
    answer = run.probability(pixels)
    assert answer.sum() == pytest.approx(1)
    raw = float(network.predict_on_batch(pixels[None].astype(np.float32))[0, 0])
    assert answer == pytest.approx(calibration.apply_temperature(np.array([1 - raw, raw]), run.temperature), abs=1e-5)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12}, size=32)
    splitting.split(data)
    config = TrainConfig(epochs=2, batch_size=8, seed=5)
    first, second = (train(data, config, run_dir=tmp_path / name) for name in "xy")
    import keras

    for name in ("model.keras", "last.keras"):
        weights = [keras.models.load_model(run.path / name).get_weights() for run in (first, second)]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert first.info.metrics == second.info.metrics


def test_damaged_and_missing_images_are_named_and_stop_nothing(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12})
    made = splitting.split(data)
    training = [row.path for row in made.manifest.rows if row.split == "train"]
    broken = ("a/broken-1.png", "a/broken-2.png")  # a manifest made elsewhere may name what cannot be decoded
    for name in broken:
        write(data / name, (data / "a" / "000.png").read_bytes()[:-100])
    rows = [Row(name, "a", "train", "x", digest) for name, digest in file_index.content_hashes(data, broken).items()]
    made.path.write_text(Manifest(made.manifest.rows + tuple(rows)).to_csv())
    write(data / training[0], (data / training[0]).read_bytes()[:200])
    (data / training[1]).unlink()
    heard: list[str] = []

    class Ears(Silent):
        def note(self, text: str) -> None:
            heard.append(text)

    run = train(data, TrainConfig(epochs=1, batch_size=8), run_dir=tmp_path / "run", listener=Ears())
    assert heard[0].startswith(f"images of the split that no longer exist (skipped): 1 ({training[1]}); make a new split")
    assert heard[1].startswith(f"images skipped because they changed after the split: 1 ({training[0]})")
    assert heard[2].startswith("skipped a/broken-")
    assert "damaged or truncated PNG" in heard[2]
    assert len(run.info.data.skipped) == 2
    assert run.info.data.images["train"] == len(training) - 2


def test_the_best_epoch_is_by_accuracy_then_by_loss() -> None:
    def epoch(accuracy: float, loss: float) -> Epoch:
        return Epoch(1, 0, 0, loss, accuracy, 0, 0, True)

    assert improves([], 0.0, 9.0)
    history = [epoch(0.5, 1.0), epoch(0.7, 0.9), epoch(0.6, 0.1)]
    assert improves(history, 0.8, 5.0)
    assert improves(history, 0.7, 0.8)
    assert not improves(history, 0.7, 0.9)
    assert not improves(history, 0.69, 0.0)


def test_a_diverging_training_says_so_and_is_never_taken_for_finished(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12})
    splitting.split(data)
    import keras

    from imgclf.models import cnn

    original = cnn.build

    def hopeless(*sizes: object, **options: object) -> keras.Sequential:
        network = original(*sizes, **options)  # type: ignore[arg-type]
        network.layers[-1].kernel.assign(np.full(network.layers[-1].kernel.shape, np.nan))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "build", hopeless)
        with pytest.raises(ImgclfError, match=r"loss is NaN or infinite in epoch 1.*again with --learning-rate 0.0003"):
            train(data, TrainConfig(epochs=1), run_dir=tmp_path / "runs" / "x")
    with pytest.raises(ImgclfError, match="not a finished run"):
        Bundle.load(tmp_path / "runs" / "x")
    with pytest.raises(ImgclfError, match="no finished run here"):
        registry.find(None, tmp_path / "runs")


def test_a_run_never_lands_among_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_classes(tmp_path / "data", {"a": 6, "b": 6})
    splitting.split(data)
    with pytest.raises(ImgclfError, match="is inside the data folder"):
        train(data, TrainConfig(epochs=1), run_dir=data / "run")
    monkeypatch.chdir(data)
    with pytest.raises(ImgclfError, match="runs: is inside the data folder"):
        train(Path("."), TrainConfig(epochs=1))
    assert sorted(path.name for path in data.iterdir()) == [".imgclf", "a", "b"]


# -- bundles ----------------------------------------------------------------------------------------------------------


def test_find_takes_the_newest_finished_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = project / "runs"
    info = json.loads((runs / "toy" / "bundle.json").read_text())
    for name, finished in [("b-older", "2020-01-01T00:00:00+00:00"), ("a-newer", "2099-01-01T00:00:00+00:00")]:
        shutil.copytree(runs / "toy", runs / name)
        _sign(runs / name, {**info, "finished": finished})
    shutil.copytree(runs / "toy", runs / "z-unfinished")
    (runs / "z-unfinished" / "bundle.json").unlink()
    assert registry.find(None, runs).path.name == "a-newer"
    assert registry.find("latest", runs).path.name == "a-newer"
    assert registry.find("toy", runs).path.name == "toy"
    assert registry.find(str(runs / "b-older"), runs).path.name == "b-older"
    with pytest.raises(ImgclfError, match="not a finished run"):
        registry.find("z-unfinished", runs)
    monkeypatch.chdir(project)
    (project / "toy").mkdir()  # a folder of the same name beside runs/
    assert registry.find("toy").path == Path("runs/toy")
    with pytest.raises(ImgclfError, match=r"bundle.json: a file, not a run folder"):
        registry.find("runs/toy/bundle.json")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: (run / "bundle.json").write_text("{"), r"bundle.json: cannot be read: Expecting property name"),
        (lambda run: (run / "bundle.json").write_text("[]"), r"bundle.json: cannot be read: not a JSON object"),
        (lambda run: (run / "bundle.json").write_text('{"format": 1}'), r"bundle.json: Preprocessing: expected a JSON object"),
        (lambda run: (run / "bundle.json").write_text('{"format": 99}'), r"written by a newer imgclf \(format 99"),
        (lambda run: (run / "model.tflite").unlink(), r"model.tflite: broken run: the file is missing"),
        (
            lambda run: (run / "model.keras").write_bytes(b"x"),
            r"model.keras: broken run: the file was changed after training",
        ),
        (lambda run: _flip(run / "model.tflite"), r"model.tflite: broken run: the file was changed after training"),
        (lambda run: _edit(run, "preprocessing", {"height": 64, "width": 64}), r"preprocessing: aspect is missing"),
        (lambda run: _edit(run, "preprocessing", {"tall": 64}), r"preprocessing: tall is unknown"),
        (lambda run: _edit(run, "files", []), r"broken run"),
        (lambda run: shutil.rmtree(run), "no such run folder"),
        (lambda run: _replace(run / "bundle.json", '"blue"', '"violet"'), "broken run: it was edited after it was written"),
    ],
)
def test_broken_bundles_are_named(harm: object, words: str, project: Path) -> None:
    harm(project / "runs" / "toy")  # type: ignore[operator]
    with pytest.raises(ImgclfError, match=words):
        Bundle.load(project / "runs" / "toy")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _edit(run: Path, key: str, value: object) -> None:
    info = json.loads((run / "bundle.json").read_text())
    _sign(run, {**info, key: value})


def _sign(run: Path, info: dict[str, object]) -> None:
    (run / "bundle.json").write_text(json.dumps({**info, "checksum": run_info.checksum(info)}))


def test_run_folders_never_mix(tmp_path: Path) -> None:
    write(tmp_path / "full" / "x", b"")
    write(tmp_path / "file", b"")
    for name, words in [("full", "not empty, and a run never overwrites another"), ("file", "a file, not a folder")]:
        with pytest.raises(ImgclfError, match=words):
            registry.new_run_folder("cnn", tmp_path / name)
    made = {registry.new_run_folder("cnn", None, tmp_path / "runs").name for _ in range(3)}
    assert len(made) == 3


# -- the command ------------------------------------------------------------------------------------------------------


def test_command_makes_the_split_and_prints_the_run(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 12, "b": 12})
    for name in ("broken", "copy"):  # identical files stay together, and the first such group goes to train
        write(tmp_path / "data" / "a" / f"{name}.jpg", encoded(photo(1))[:-200])
    done = imgclf("train", "--epochs", "2", "--batch-size", "8")
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip()
    assert done.stdout == f"{run}\n"
    assert (tmp_path / run / "bundle.json").exists()
    assert "no split yet" in done.stderr
    assert "skipped a/broken.jpg: damaged or truncated JPEG" in done.stderr
    for word in ("oneDNN", "cuda", "absl", "XNNPACK", "Traceback"):
        assert word not in done.stderr
    warned = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert all(line.startswith("Warning: validation accuracy") for line in warned)  # of three images
    assert [line.split()[0] for line in done.stderr.splitlines() if line[:5].strip().isdigit()] == ["1", "2"]


def test_command_with_bad_folders(tmp_path: Path, imgclf: Run) -> None:
    for arguments, code, words in [
        (("nowhere",), 1, "nowhere: no such folder"),
        (("data", "--epochs", "0"), 2, "--epochs must be a whole number, 1 to 1000000, not 0"),
    ]:
        done = imgclf("train", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(f"imgclf: error: {words}")
        assert done.stderr.count("\n") == 1


def test_a_fold_is_trained_on_and_evaluated_as_its_own_split(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 12, "b": 12})
    none = imgclf("train", "--fold", "1", "--epochs", "1")
    assert (none.returncode, none.stderr) == (
        1, "imgclf: error: data: no folds yet; create them with `imgclf split data --folds 5`\n")  # fmt: skip
    assert imgclf("split", "--folds", "3").returncode == 0
    wrong = imgclf("train", "--fold", "4", "--epochs", "1")
    assert (wrong.returncode, wrong.stderr) == (1, "imgclf: error: --fold 4: no such fold; use 1 to 3\n")
    done = imgclf("train", "--fold", "2", "--epochs", "1", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    fold = read_manifest(tmp_path / "data" / ".imgclf" / "folds" / "fold-2-of-3.csv")
    assert read_manifest(tmp_path / "run" / "split.csv") == fold
    assert json.loads((tmp_path / "run" / "config.json").read_text())["fold"] == 2
    scored = json.loads(imgclf("evaluate", "--run", "run", "--json").stdout)
    assert scored["images"] == sum(row.split == "test" for row in fold.rows) == 8


# -- going on, stopping, schedules ------------------------------------------------------------------------------------


class Watch(Silent):
    """Remembers what it hears, and does something after an epoch."""

    def __init__(self, at: int = 0, do: Callable[[], object] = lambda: None, stop: bool = False) -> None:
        self.at, self.do, self.stops = at, do, stop
        self.notes: list[str] = []
        self.about: list[str] = []
        self.epochs: list[Epoch] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, run_dir: Path, about: Sequence[str]) -> None:
        self.about += about

    def epoch(self, epoch: Epoch, left: float) -> None:
        self.epochs.append(epoch)
        if epoch.epoch == self.at:
            self.do()

    def stop(self) -> bool:
        return self.stops and len(self.epochs) >= self.at


def weights(run: Path, name: str = "last.keras") -> list[np.ndarray]:
    import keras

    return keras.models.load_model(run / name).get_weights()  # type: ignore[no-any-return]


FULL = TrainConfig(
    epochs=4, batch_size=8, ema=0.9, weight_decay=0.01, lr_schedule="plateau", augment="strong", model="cnn-small"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data that is split and a run of FULL that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    make_classes(root / "data", {"a": 16, "b": 40, "c": 16})
    splitting.split(root / "data")
    train(root / "data", FULL, run_dir=root / "runs" / "whole")
    return root


@pytest.mark.parametrize("instant", [0.6, *(pytest.param(one, marks=pytest.mark.long) for one in (0.1, 0.95))])
def test_killed_and_resumed_is_the_same_bit_for_bit(instant: float, whole: Path, tmp_path: Path) -> None:
    """`kill -9` at some instant of the training, then --resume as a command: the weights of the uninterrupted run."""
    shutil.copytree(whole / "data", tmp_path / "data", symlinks=True)
    script = write(tmp_path / "run.py", SCRIPT.encode())
    with started([sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begins\n"
        for reached, _line in enumerate(process.stdout, 1):  # a line a batch: 4 epochs of 7
            if reached >= instant * 28:
                break
        process.kill()
    run = tmp_path / "runs" / "killed"
    assert not (run / "bundle.json").exists()
    write(run / ".checkpoint.0123456789ab.tmp.npz", b"half")  # as left by a kill while it is written
    done = subprocess.run(
        [sys.executable, "-m", "imgclf", "train", "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if instant > 0.3:
        assert "resumed after epoch" in done.stderr
    for name in ("last.keras", "model.keras"):
        for one, other in zip(weights(run, name), weights(whole / "runs" / "whole", name), strict=True):
            np.testing.assert_array_equal(one, other)
    ours, theirs = (json.loads((path / "bundle.json").read_text()) for path in (run, whole / "runs" / "whole"))
    assert ours["metrics"] == theirs["metrics"]
    assert ours["data"]["split_hash"] == theirs["data"]["split_hash"]
    assert not list(run.glob("*checkpoint*"))


SCRIPT = """
import dataclasses, sys
from pathlib import Path
from imgclf.core.config import Subset, Preprocessing, TrainConfig
from imgclf.train import Silent, train

class Lines(Silent):
    def started(self, run_dir, summary):
        print("begins", flush=True)
    def batch(self, epoch, done, total):
        print(epoch, done, flush=True)

train(Path("data"), TrainConfig(epochs=4, batch_size=8, ema=0.9, weight_decay=0.01, lr_schedule="plateau", augment="strong",
      model="cnn-small"), run_dir=Path("runs/killed"), listener=Lines())
"""


def test_killed_after_the_last_epoch_and_resumed_is_the_same(whole: Path, tmp_path: Path) -> None:
    class AtExport(Silent):
        def stage(self, name: str) -> None:
            if name == "exporting":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(whole / "data", FULL, run_dir=tmp_path / "run", listener=AtExport())
    (tmp_path / "run" / "last.keras").unlink()
    resume(str(tmp_path / "run"))
    for name in ("last.keras", "model.keras"):
        for one, other in zip(weights(tmp_path / "run", name), weights(whole / "runs" / "whole", name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_can_not_be_resumed_is_named(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImgclfError, match="no unfinished run here"):
        resume()
    with pytest.raises(ImgclfError, match="a finished run; there is nothing to resume"):
        resume(str(whole / "runs" / "whole"))
    with pytest.raises(ImgclfError, match=r"not a run that can be resumed \(config.json is missing\)"):
        resume("nowhere")
    for number, text in enumerate(("{", "[]", '"x"', "{}")):
        write(tmp_path / str(number) / "config.json", text.encode())
        with pytest.raises(ImgclfError, match=r"config.json: cannot be read"):
            resume(str(number))
    shutil.copytree(whole / "data", tmp_path / "data")

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Path("data"), FULL, run_dir=Path("runs/x"), listener=Watch(2, fail))
    changed = tmp_path / "data" / "b" / "000.png"
    changed.rename(tmp_path / "away.png")
    with pytest.raises(ImgclfError, match="the images, their classes or the split have changed since this run started"):
        resume("x")
    (tmp_path / "away.png").rename(changed)
    checkpoint = tmp_path / "runs" / "x" / "checkpoint.npz"
    content = checkpoint.read_bytes()
    for damage in (content[: len(content) // 2], b"", b"PK\x03\x04" + bytes(100)):
        checkpoint.write_bytes(damage)
        with pytest.raises(ImgclfError, match=r"checkpoint.npz: cannot be used .*start a new run"):
            resume("x")
    checkpoint.write_bytes(content)
    assert resume("x").info.metrics.epochs == 4


def test_a_run_is_trained_by_one_process_at_a_time_and_its_data_may_move(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "data", tmp_path / "before", symlinks=True)

    def twice() -> None:
        with pytest.raises(ImgclfError, match="another process is training this run; wait for it, or stop it first"):
            resume(str(tmp_path / "run"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "before", FULL, run_dir=tmp_path / "run", listener=Watch(1, twice))
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(ImgclfError, match=r"its data folder .*before does not exist; give the new path"):
        resume(str(tmp_path / "run"))
    (tmp_path / "run" / "checkpoint.npz").unlink()  # as if the kill had come in the first epoch
    ears = Watch()
    resumed = resume(str(tmp_path / "run"), data=tmp_path / "after", listener=ears)
    assert ears.about[-1] == "started again: no epoch was complete"
    assert resumed.info.data.path == str(tmp_path / "after")
    for one, two in zip(weights(tmp_path / "run"), weights(whole / "runs" / "whole"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_data_moved_to_the_usual_place_and_an_empty_run(whole: Path, tmp_path: Path, imgclf: Run) -> None:
    """`data` is where the images are when it is said to be, though it is the default too."""
    shutil.copytree(whole / "data", tmp_path / "before", symlinks=True)

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "before", FULL, run_dir=tmp_path / "runs" / "x", listener=Watch(3, fail))
    (tmp_path / "before").rename(tmp_path / "data")
    done = imgclf("train", "--resume")
    assert (done.returncode, "before does not exist; give the new path" in done.stderr) == (1, True)
    done = imgclf("train", "data", "--resume=")
    assert (done.returncode, "not a run that can be resumed" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x"]
    done = imgclf("train", "data", "--resume")
    assert (done.returncode, done.stdout) == (0, "runs/x\n"), done.stderr


def test_a_run_can_be_resumed_from_when_it_has_its_config(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed as it writes that, it is no run yet; and the split of a run is never missing."""
    from imgclf.core.files import atomic

    def killed(path: Path, _value: object) -> None:
        raise KeyboardInterrupt(path.name)

    monkeypatch.setattr(atomic, "write_json", killed)
    with pytest.raises(KeyboardInterrupt, match=r"config.json"):
        train(whole / "data", FULL, run_dir=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["split.csv"]


def test_only_an_unfinished_run_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C after the end, while a backbone is looked at: there is nothing to resume."""
    for name, said in (("bundle.json", ""), ("checkpoint.npz", f"continue with `imgclf train --resume '{tmp_path}/a run'`\n")):
        write(tmp_path / "a run" / name, b"{}")
        with pytest.raises(KeyboardInterrupt), TrainingDisplay() as display:
            display.started(tmp_path / "a run", [])
            display.epoch(Epoch(1, 0, 0, 0, 0, 0, 1.0, True), 0.0)
            raise KeyboardInterrupt
        assert capsys.readouterr().err.endswith(said or "0:00\n")
        (tmp_path / "a run" / name).unlink()


def test_the_rate_is_looked_for_with_the_weights_of_the_training(whole: Path, tmp_path: Path) -> None:
    uneven = str(write(tmp_path / "w.csv", b"class,weight\na,1\nb,1\nc,50\n"))
    config = dataclasses.replace(FULL, image_size=16)
    found = [find_rate(whole / "data", dataclasses.replace(config, class_weights=one)).losses for one in ("none", uneven)]
    assert found[0][0] != pytest.approx(found[1][0], rel=1e-3)


def test_a_network_that_always_says_the_same_is_said_to(tmp_path: Path) -> None:
    """Images of nothing but noise: the validation accuracy is beside the share of the largest class in training."""
    for number in range(60):
        write(tmp_path / "data" / ("a" if number % 4 else "b") / f"{number}.png", encoded(photo(number, 16, 16), "PNG"))
    splitting.split(tmp_path / "data")
    ears = Watch()
    config = TrainConfig(epochs=1, model="cnn-small", learning_rate=1e-9, class_weights="none")
    run = train(tmp_path / "data", config, run_dir=tmp_path / "run", listener=ears)
    counts = [sum(row.label == name for row in _validation(run.path)) for name in "ab"]
    share = counts[0] / sum(counts)
    scores = run.info.metrics
    low, high = scores.val_interval
    assert 0 <= low <= scores.val_accuracy <= high <= 1
    beside = scores.val_baseline
    assert (beside.class_name, beside.accuracy) == ("a", share)
    assert beside.verdict == ("better" if low > share else "worse" if high < share else "not better") != "better"
    words = f"the baseline: always predicting a scores {share:.4f} on the same images; "
    assert [words in note for note in ears.notes if note.startswith("Warning: validation accuracy ")] == [True]
    assert "always predicting a, the largest class in training" in " ".join(ears.about)


def _validation(run: Path) -> list[Row]:
    return [row for row in read_manifest(run / "split.csv").rows if row.split == "val"]


def test_a_stop_after_an_epoch_finishes_the_run(whole: Path, tmp_path: Path) -> None:
    ears = Watch(2, stop=True)
    run = train(whole / "data", FULL, run_dir=tmp_path / "run", listener=ears)
    assert run.info.metrics.epochs == 2
    assert "stopped after epoch 2, by request; the best epoch so far is kept" in ears.notes


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_once_finishes_and_twice_stops(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "data", tmp_path / "data")
    for times, code in ((1, 0), (2, 130)):
        command = ["train", "--epochs", "400", "--model", "cnn-small", "--run-dir", f"runs/{times}"]
        with started(
            [sys.executable, "-m", "imgclf", *command], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            for line in process.stderr:
                if line.startswith("    2 "):
                    break
            for _time in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.1)
            _out, rest = process.communicate(timeout=120)
        assert process.returncode == code, rest
        assert (tmp_path / "runs" / str(times) / "bundle.json").exists() == (times == 1)
        assert (
            "by request; the best epoch so far is kept"
            if times == 1
            else "unfinished run: continue with `imgclf train --resume runs/2`"
        ) in rest


def test_early_stopping(whole: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(FULL, epochs=30, early_stopping=2, learning_rate=1e-7)  # nothing is learnt
    ears = Watch()
    run = train(whole / "data", config, run_dir=tmp_path / "run", listener=ears)
    assert ears.notes[0] == "stopped early: no improvement for 2 epochs (--early-stopping)"
    assert run.info.patience == 2
    assert run.info.metrics.epochs - run.info.metrics.best_epoch == 2
    assert run.info.metrics.epochs < 30
    assert [patience(TrainConfig(), n) for n in (5, 20, 100)] == [10, 10, 50]
    assert patience(TrainConfig(lr_schedule="constant"), 50) == 10
    assert patience(TrainConfig(early_stopping=0), 30) == 0


def test_a_time_budget_makes_fewer_epochs_and_a_whole_schedule(whole: Path, tmp_path: Path) -> None:
    ears = Watch()
    config = dataclasses.replace(FULL, epochs=500, time_budget=20.0, early_stopping=0)
    began = time.monotonic()
    run = train(whole / "data", config, run_dir=tmp_path / "run", listener=ears)
    assert 1 <= run.info.metrics.epochs < 500
    assert f"epochs that fit into the time budget of 20 s: {run.info.metrics.epochs}" in ears.notes
    assert time.monotonic() - began < 90  # on a machine that does many things at once


@pytest.mark.parametrize(("early_stopping", "wait"), [(None, 6), (0, 6), (12, 4), (3, 2)])
def test_a_plateau_is_a_third_of_the_patience(early_stopping: int | None, wait: int, whole: Path) -> None:
    """Of the usual one, a fifth of 100 epochs, where early stopping is off."""
    config = TrainConfig(epochs=100, lr_schedule="plateau", early_stopping=early_stopping)
    manifest = read_manifest(manifest_path(whole / "data"))
    prepared = prepared_images.Prepared(Path(), Preprocessing(96, 96), ("a", "b"), (), 0, {"train": {}, "val": {}})
    state = TrainingState(Path(), config, manifest, prepared, None, Path(), Silent(), devices.choose(None), config.epochs)
    factors = []
    for number, loss in enumerate([0.5] + [0.6] * 12, 1):
        loop._lower_rate_on_plateau(state, loss)
        factors.append(state.factor)
        state.history.append(Epoch(number, loss, 0.5, loss, 0.5, 1.0, 1.0, False))
    assert [factor < before for before, factor in itertools.pairwise(factors)] == [
        number % wait == 0 for number in range(1, 13)
    ]


def test_many_epochs_are_fitted_into_a_time_budget_at_once(whole: Path) -> None:
    """As many as fit, by the growing area of the images; and no slower to find for being many."""
    manifest = read_manifest(manifest_path(whole / "data"))
    files: dict[Subset, dict[str, str]] = {"train": {}, "val": {}}
    prepared = prepared_images.Prepared(Path(), Preprocessing(96, 96), ("a", "b"), (), 0, files)
    for progressive, budget, fitting in ((False, 110.0, 99), (False, 1.0, 1), (True, 110.0, 49), (True, 1e9, 30_000)):
        config = TrainConfig(epochs=30_000, time_budget=budget, progressive=progressive)
        machine = devices.choose(None)
        state = TrainingState(Path(), config, manifest, prepared, None, Path(), Silent(), machine, config.epochs)
        began = time.monotonic()
        loop._fit_budget(state, elapsed=1.0, first=1.0)
        assert state.epochs == fitting
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("counts", "wanted", "expected"),
    [
        ((10, 14), "auto", None), ((10, 30), "auto", (2.0, 2 / 3)), ((10, 30), "none", None), ((20, 20), "file", (1.5, 0.5)),
        ((10, 30), "file", (2.0, 2 / 3)),
    ],
)  # fmt: skip
def test_class_weights(counts: tuple[int, int], wanted: str, expected: object, tmp_path: Path) -> None:
    if wanted == "file":
        wanted = str(write(tmp_path / "w.csv", b"class,weight\nb,1\na,3\n"))
    found = class_weights(wanted, ("a", "b"), counts)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.tolist() == pytest.approx(expected)
        assert float(found @ np.array(counts)) == pytest.approx(sum(counts))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"class,weight\na,1\n", "no weight for b; every class needs one"),
        (b"class;weight\na;1\n", "no weight for b; every class needs one"),
        (b"class,weight\n\na,x\nb,1\n", "line 3: a weight must be a number above 0, not x"),
        (b"class,weight\na,x\nb,1\n", "line 2: a weight must be a number above 0, not x"),
        (b"class,weight\nb,1\na,0\n", "line 3: a weight must be a number above 0, not 0"),
        (b"class,weight\na,\n", "line 2: a weight must be a number above 0, not empty"),
        (b"class,weight\na,1\na,2\nb,1\n", "line 3: class a is listed twice"),
        (b"class,weight\na,1\nc,2\nb,1\n", "line 3: unknown class 'c'; the classes are a, b"),
        (b"\x89PNG\r\n\xff\x00", "needs the columns class and weight, has "),
    ],
)  # fmt: skip
def test_bad_class_weights_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 8, "b": 8}, size=16)
    splitting.split(data)
    with pytest.raises(ImgclfError, match=words):
        train(data, TrainConfig(class_weights=str(write(tmp_path / "w.csv", content))), run_dir=tmp_path / "run")
    with pytest.raises(ImgclfError, match="--class-weights takes auto, none or a CSV file"):
        train(data, TrainConfig(class_weights="balanced"), run_dir=tmp_path / "run2")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run2").exists()


def test_smoothing_moves_targets_and_weights_follow_what_is_mixed(project: Path) -> None:
    """A batch in which every image is mixed counts by its shares, not by the class it was of before."""
    subsets, _notes = load_subsets(project / "data", read_manifest(manifest_path(project / "data")))
    prepared = prepared_images.prepare(
        project / "data", {"train": subsets["train"], "val": subsets["val"]}, Preprocessing(16, 16)
    )
    images = loader.Images(prepared, "train")
    weights = np.array([0.5, 1.0, 3.0], np.float32)

    def turned(pixels: np.ndarray, targets: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pixels, 0.25 * targets + 0.75 * np.roll(targets, 1, axis=1)

    plain = np.concatenate([targets for _pixels, targets, _own in images.shuffled(8, seed=1, epoch=1)])
    (_pixels, targets, own), *_rest = images.shuffled(64, seed=1, epoch=1, feed=loader.Feed(turned, weights, 0.1))
    mixed = 0.25 * plain + 0.75 * np.roll(plain, 1, axis=1)
    np.testing.assert_allclose(targets, 0.9 * mixed + 0.1 / 3, atol=1e-6)
    np.testing.assert_allclose(own, mixed @ weights, atol=1e-6)


def test_label_smoothing_reaches_the_loss(tmp_path: Path) -> None:
    """Smoothed targets have an entropy, and no answer is nearer to them than that; plain ones have none."""
    data = make_classes(tmp_path / "data", {"a": 16, "b": 16}, size=16)
    splitting.split(data)
    losses = {}
    for smoothing in (0.0, 0.4):
        options = TrainConfig(epochs=6, batch_size=4, image_size=16, augment="none", label_smoothing=smoothing)
        train(data, options, run_dir=tmp_path / f"{smoothing}")
        with open(tmp_path / f"{smoothing}" / "history.csv", newline="") as file:
            losses[smoothing] = [float(row["loss"]) for row in csv.DictReader(file)]
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert min(losses[0.0]) < 0.8 * entropy
    assert min(losses[0.4]) >= entropy


def test_a_full_disk_is_said_with_what_to_do(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.train import run_files

    original = run_files.write_checkpoint

    def full(work: object, trainer: object) -> None:
        original(work, trainer)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_files, "write_checkpoint", full)
    with pytest.raises(
        ImgclfError,
        match=r"disk is full; .* continue with `imgclf train --resume .*best epoch so far is saved in .*model.keras",
    ):
        train(whole / "data", FULL, run_dir=tmp_path / "run")
    monkeypatch.undo()
    assert resume(str(tmp_path / "run")).info.metrics.epochs == 4


def test_command_summary_rates_and_board(whole: Path, imgclf: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(whole / "data", tmp_path / "data")
    done = imgclf("train", "--summary", "--image-size", 64)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[1] for row in rows[1:-1]].count("Conv2D") == 6
    assert "cnn for 64 x 64 pixels; trained in" in done.stdout
    assert not (tmp_path / "runs").exists()
    done = imgclf("train", "--lr-find", "--batch-size", 8, "--json")
    assert done.returncode == 0, done.stderr
    found = as_described("train-lr-find", json.loads(done.stdout))
    assert len(found["rates"]) == len(found["losses"]) >= 12
    print_rate_search(RateSearch((), (), found["suggestion"], Path(found["plot"])), False)
    assert re.fullmatch(r"--learning-rate [0-9.e-]+\n", capsys.readouterr().out)
    assert header.header((tmp_path / "data/.imgclf/lr-find.png").read_bytes()).format == "PNG"
    done = imgclf("train", "--epochs", 1, "--tensorboard", "--model", "cnn-small", "--run-dir", "runs/board")
    assert done.returncode == 0, done.stderr
    import tensorflow as tf

    (events,) = (tmp_path / "runs/board/tensorboard").iterdir()
    read = [tf.compat.v1.Event.FromString(record) for record in tf.compat.v1.io.tf_record_iterator(str(events))]
    assert read[0].file_version == "brain.Event:2"
    with open(tmp_path / "runs/board/history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    logged = {value.tag: value.simple_value for value in read[1].summary.value}
    assert read[1].step == 1
    assert logged == pytest.approx({name: float(row[name]) for name in logged})
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(logged)
    for options in (["--resume", "--epochs", 3], ["--time-budget", "soon"]):
        done = imgclf("train", *options)
        assert (done.returncode, done.stdout) == (2, "")

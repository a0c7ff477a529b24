"""export: every format answers as the run does, knows what it is, and is kept only if so."""

import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, encoded, make_classes, photo, with_temperature, write
from described import as_described
from PIL import Image

from imgclf.core.config import ExportConfig, Format, Model, Preprocessing, Quantize, SplitConfig, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data.manifest import read_manifest
from imgclf.evaluation.intervals import wilson_interval
from imgclf.export import exporting as verb
from imgclf.export import formats
from imgclf.export.predicting import Predict
from imgclf.images import preprocess
from imgclf.models import cnn
from imgclf.models.bundle import Bundle
from imgclf.predict import predict
from imgclf.split import splitting
from imgclf.train import train

EXAMPLES = Path(__file__).parents[2] / "examples"
ALL: list[tuple[Format, Quantize]] = [(form, kind) for form, one in formats.FORMATS.items() for kind in one.quantize]
EXACT: list[tuple[Format, Quantize]] = [(form, "none") for form in formats.FORMATS]
OFF: dict[Quantize, float] = {"none": 2e-6, "float16": 2e-3, "int8": 0.05}  # a toy's answers differ by less

Made = Callable[[str, Format, Quantize], verb.Export]


def run_of(project: Path) -> Bundle:
    return Bundle.load(project / "runs" / "toy")


@pytest.fixture(scope="session")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The run of three classes, and one of two that crops, both with a temperature that changes every prediction."""
    root = tmp_path_factory.mktemp("two")
    make_classes(root / "data", {"no": 24, "yes": 24})
    splitting.split(root / "data", SplitConfig(train=17 / 24, val=4 / 24, test=3 / 24))
    two = train(root / "data", TrainConfig(epochs=3, batch_size=8, aspect="crop"), run_dir=root / "runs" / "toy")
    assert two is not None
    three = shutil.copytree(trained / "runs" / "toy", tmp_path_factory.mktemp("three") / "toy")
    for run in (three, two.path):
        with_temperature(run, 1.3)
    return {"three": Bundle.load(three), "two": Bundle.load(two.path)}


@pytest.fixture(scope="session")
def made(runs: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each export once, for all tests; do not write into it."""
    root, done = tmp_path_factory.mktemp("exports"), {}

    def make(name: str, form: Format, quantize: Quantize) -> verb.Export:
        key = f"{name}-{form}-{quantize}"
        if key not in done:
            done[key] = verb.export(runs[name], ExportConfig(form, quantize), out=root / f"{key}{formats.FORMATS[form].ending}")
        return done[key]

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images of other shapes than the network's, which the preprocessing has to bring into it."""
    root = tmp_path_factory.mktemp("photos")
    shapes = [(60, 40), (40, 60), (300, 200), (20, 25), (32, 32)]
    paths = [write(root / f"{number}.jpg", encoded(photo(number, *shape))) for number, shape in enumerate(shapes)]
    return [str(path) for path in (*paths, write(root / "9.png", encoded(photo(9), "PNG")))]


def about(result: verb.Export) -> dict[str, Any]:
    """What a file says of itself, read as a stranger would."""
    if result.format == "onnx":
        import onnx

        return json.loads({prop.key: prop.value for prop in onnx.load(result.path).metadata_props}["imgclf"])
    if result.format == "saved-model":
        return json.loads(Path(result.path, "assets.extra", "imgclf.json").read_text("utf-8"))
    return json.loads(zipfile.ZipFile(result.path).read("imgclf.json"))


@pytest.mark.parametrize(("form", "quantize"), ALL)
@pytest.mark.parametrize("name", ["three", "two"])
def test_the_example_scripts_say_what_predict_says(
    name: str, form: Format, quantize: Quantize, made: Made, runs: dict[str, Bundle], photos: list[str]
) -> None:
    script = EXAMPLES / f"use_{form.replace('-', '_')}.py"
    assert "import imgclf" not in script.read_text() and "from imgclf" not in script.read_text()
    if quantize == "int8":  # which is fitted to the run's own images and no others
        photos = [str(path) for path in sorted(Path(runs[name].info.data.path).rglob("*.png"))[::5]]
    done = subprocess.run(
        [sys.executable, script, made(name, form, quantize).path, *photos],
        capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    off = 0.01 if form == "saved-model" else OFF[quantize]  # that one decodes and resizes by itself
    assert len(said) == len(photos)
    for (path, label, probability), record in zip(said, predict(runs[name], photos), strict=True):
        assert (path, label) == (record.input, record.label)
        assert float(probability) == pytest.approx(record.probability, abs=off)


@pytest.mark.parametrize(("form", "quantize"), ALL)
@pytest.mark.parametrize("name", ["three", "two"])
def test_an_export_is_measured(name: str, form: Format, quantize: Quantize, made: Made, runs: dict[str, Bundle]) -> None:
    result, run = made(name, form, quantize), runs[name]
    assert (result.subset, result.images) == ("test", 3 * len(run.class_names))
    answer = formats.open_exported(Path(result.path), form)
    rows = [row for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    pixels = [preprocess.load(run.preprocessing, Path(run.info.data.path) / row.path) for row in rows]
    after, before = np.array([answer(image) for image in pixels]), run.probabilities(pixels)
    assert after.shape == (len(rows), len(run.class_names))
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-6)
    assert result.difference == pytest.approx(np.abs(after - before).max(), abs=1e-9)
    assert 0 < result.difference <= OFF[quantize]
    assert result.agreement == (after.argmax(1) == before.argmax(1)).mean() == 1
    true = np.array([run.class_names.index(row.label) for row in rows])
    assert result.accuracy_before == (before.argmax(1) == true).mean()
    assert result.accuracy_after == (after.argmax(1) == true).mean()
    assert result.interval_before[0] <= result.accuracy_before <= result.interval_before[1]
    assert result.interval_after == wilson_interval(int((after.argmax(1) == true).sum()), len(true))
    assert result.agreement_interval[1] == 1.0
    assert (result.baseline.class_name, result.baseline.accuracy) == (run.class_names[0], (true == 0).mean())
    assert result.representative_images == (4 * len(run.class_names) if quantize == "int8" else 0)
    files = [file for file in (Path(result.path), *Path(result.path).rglob("*")) if file.is_file()]
    assert result.size_after == sum(file.stat().st_size for file in files)
    assert result.ms_before > 0 and result.ms_after > 0
    assert (result.from_bytes is not None) == (form == "saved-model")
    as_described("export", json.loads(json.dumps(result.to_dict())))
    if result.from_bytes:
        assert dataclasses.astuple(result.from_bytes)[::2] == (len(rows), 1.0)
        assert result.from_bytes.difference < 1e-5  # PNG files of the network's size: nothing is rounded


def test_the_answers_are_calibrated(made: Made, runs: dict[str, Bundle]) -> None:
    """The run's raw network, whose temperature is not 1, answers otherwise than what is exported."""
    import keras

    for name, run in runs.items():
        assert run.temperature == 1.3
        image = preprocess.resize(np.array(photo(5)), 32, 32)
        raw = keras.saving.load_model(run.path / "model.keras")(image[np.newaxis].astype(np.float32)).numpy()[0]
        assert np.abs(formats.open_exported(Path(made(name, "keras", "none").path), "keras")(image)[-1] - raw[-1]) > 1e-3


@pytest.mark.parametrize(("form", "quantize"), ALL)
def test_names_and_preprocessing_travel_inside(form: Format, quantize: Quantize, made: Made, runs: dict[str, Bundle]) -> None:
    for name, classes in (("three", ["blue", "green", "red"]), ("two", ["no", "yes"])):
        known = as_described("exported", about(made(name, form, quantize)))
        assert known["class_names"] == classes
        assert Preprocessing(**known["preprocessing"]) == runs[name].preprocessing
        assert (known["temperature"], known["quantize"]) == (runs[name].temperature, quantize)
        assert (known["format"], known["calibrated"], known["model"], known["run"]) == (1, True, "cnn", "toy")


def test_a_litert_file_has_them_as_metadata_and_as_an_archive(made: Made) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    result = made("three", "litert", "int8")
    file = schema.ModelT.InitFromPackedBuf(Path(result.path).read_bytes(), 0)
    texts = {entry.name: bytes(file.buffers[entry.buffer].data) for entry in file.metadata if entry.name == b"imgclf"}
    assert json.loads(texts[b"imgclf"]) == about(result)
    assert zipfile.ZipFile(result.path).read("labels.txt") == b"blue\ngreen\nred\n"
    signatures = Interpreter(result.path).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}}
    weights = [tensor for tensor in file.subgraphs[0].tensors if tensor.type == schema.TensorType.INT8]
    assert len(weights) > 6


def test_fewer_bits_make_smaller_files(made: Made) -> None:
    whole, half, quarter = (made("three", "litert", kind).size_after for kind in ("none", "float16", "int8"))
    assert 0.5 < half / whole < 0.52
    assert 0.25 < quarter / whole < 0.29
    assert 0.5 < made("three", "onnx", "float16").size_after / made("three", "onnx", "none").size_after < 0.52


def test_an_onnx_file_takes_any_number_of_images(made: Made) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(made("three", "onnx", "none").path)
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["image", "probabilities"]
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    together = session.run(None, {"image": pixels})[0]
    assert together.shape == (3, 3)
    single = np.concatenate([session.run(None, {"image": pixels[[number]]})[0] for number in range(3)])
    np.testing.assert_allclose(together, single, atol=1e-6)


def test_a_saved_model_takes_files_and_names_the_label(made: Made, runs: dict[str, Bundle], photos: list[str]) -> None:
    import tensorflow as tf

    network = tf.saved_model.load(made("two", "saved-model", "none").path)
    assert set(network.signatures) == {"serving_default", "pixels"}
    answer = network.signatures["serving_default"](bytes=tf.constant([Path(path).read_bytes() for path in photos]))
    expected = list(predict(runs["two"], photos))
    assert [label.decode() for label in answer["labels"].numpy()] == [record.label for record in expected]
    assert answer["probabilities"].shape == (len(photos), 2)
    pixels = np.stack([preprocess.load(runs["two"].preprocessing, Path(path)) for path in photos])
    of_pixels = network.signatures["pixels"](image=tf.constant(pixels.astype(np.float32)))["probabilities"].numpy()
    np.testing.assert_allclose(of_pixels.max(axis=1), [record.probability for record in expected], atol=1e-6)


def test_a_keras_file_has_stock_layers_only(made: Made) -> None:
    code = f"""
import sys, keras
network = keras.saving.load_model({made("two", "keras", "none").path!r})
assert "imgclf" not in sys.modules
print({{type(layer).__module__.split(".")[0] for layer in network.layers}}, network.output_shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "{'keras'} (None, 2)\n", done.stderr


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
def test_the_example_prepares_pixels_as_imgclf_does(aspect: Any, tmp_path: Path) -> None:
    prepare = runpy.run_path(str(EXAMPLES / "prepare.py"))["prepare"]
    preprocessing = Preprocessing(48, 64, aspect)
    for shape in ((60, 40), (40, 60), (300, 200), (20, 25), (64, 48), (31, 400)):
        deep = np.random.default_rng(1).integers(0, 65536, (shape[1], shape[0])).astype(np.uint16)
        for content in (encoded(photo(1, *shape)), encoded(photo(2, *shape), "PNG"), encoded(Image.fromarray(deep), "PNG")):
            path = write(tmp_path / "photo.jpg", content)
            expected = preprocess.load(preprocessing, path)[np.newaxis].astype(np.float32)
            np.testing.assert_array_equal(prepare(str(path), dataclasses.asdict(preprocessing)), expected)


def test_the_path_alone_is_on_stdout(project: Path, imgclf: Run) -> None:
    for _twice in range(2):  # what an earlier export left under the default name is replaced
        done = imgclf("export", "--quantize", "float16")
        assert (done.returncode, done.stdout) == (0, "runs/toy/export/model-float16.tflite\n"), done.stderr
    for words in (
        "litert in float16",
        "95% interval",
        "baseline 0.3333",
        "9 images of the test set",
        "same label on 9 of 9",
    ):
        assert words in done.stderr
    assert [path.name for path in (project / "runs/toy/export").iterdir()] == ["model-float16.tflite"]


def test_json_has_every_figure(project: Path, imgclf: Run) -> None:
    done = imgclf(
        "export", "data", "--run", "toy", "--format", "keras", "--out", "mine.keras", "--tolerance", "0.001", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = as_described("export", json.loads(done.stdout))
    assert set(said) == {"schema"} | {field.name for field in dataclasses.fields(verb.Export)}
    assert (said["path"], said["format"], said["tolerance"], said["agreement"]) == ("mine.keras", "keras", 0.001, 1.0)
    assert not (project / "runs/toy/export").exists()


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(("form", "quantize"), [("litert", "float16"), ("saved-model", "none")])
def test_one_that_differs_by_more_leaves_nothing(form: Format, quantize: Quantize, project: Path, imgclf: Run) -> None:
    before = everything(project / "runs")
    done = imgclf("export", "--format", form, "--quantize", quantize, "--tolerance", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "not exported: a probability differs from the run's by" in done.stderr
    assert "on 9 test images; the allowed difference is 0;" in done.stderr
    assert everything(project / "runs") == before


def test_files_that_only_imgclf_reads_are_said(tmp_path: Path) -> None:
    """A JPEG without the mark at its end is whole to imgclf; TensorFlow refuses it."""
    for number, name in enumerate(("a", "b")):
        for index in range(12):
            whole = encoded(photo(100 * number + index), quality=90)
            write(tmp_path / "data" / name / f"{index}.jpg", whole if index % 3 else whole[:-2])
    splitting.split(tmp_path / "data")
    run = train(tmp_path / "data", TrainConfig(epochs=1, batch_size=8), run_dir=tmp_path / "run")
    assert run is not None
    paths = [tmp_path / "data" / row.path for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    endless = sum(not path.read_bytes().endswith(b"\xff\xd9") for path in paths)
    assert 0 < endless < len(paths)
    result = verb.export(run, ExportConfig("saved-model"))
    assert result.images == len(paths)
    assert result.from_bytes is not None
    assert result.from_bytes.images == len(paths) - endless
    refused = f"JPEG and PNG files that the SavedModel cannot decode, for example because the end marker is missing: {endless}"
    assert result.notes[0] == refused
    assert all(note.startswith("Warning: accuracy") for note in result.notes[1:])  # of a network of one epoch


@pytest.mark.parametrize("form", ["litert", "saved-model"])
def test_what_an_earlier_export_left_stays_when_the_next_fails(form: Format, project: Path) -> None:
    with_temperature(project / "runs" / "toy", 1.3)  # so that an export differs from the run
    run = run_of(project)
    verb.export(run, ExportConfig(form))
    before = everything(project / "runs")
    with pytest.raises(ImgclfError, match="not exported"):
        verb.export(run, ExportConfig(form, tolerance=0))
    assert everything(project / "runs") == before
    again = verb.export(run, ExportConfig(form))
    assert set(everything(project / "runs")) == set(before)
    assert Path(again.path) == run.path / "export" / ("saved-model" if form == "saved-model" else "model.tflite")


def test_int8_is_held_to_its_labels(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, honest = run_of(project), formats.open_exported

    def turned(path: Path, form: Format) -> Predict:
        answer = honest(path, form)
        return lambda image: answer(image)[::-1]

    monkeypatch.setattr(formats, "open_exported", turned)
    with pytest.raises(ImgclfError, match=r"differs from the run's for 6 of 9 test images; the allowed fraction is 0.02;"):
        verb.export(run, ExportConfig("litert", "int8"))
    assert not (run.path / "export").exists()
    assert verb.export(run, ExportConfig("litert", "int8", 0.67)).agreement == pytest.approx(3 / 9)


def test_int8_is_fitted_to_training_images_where_there_are_no_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_manifest(project / "runs/toy/split.csv").rows
    assert {row.split for row in verb._calibration_rows(list(rows))} == {"val"}
    others = [row for row in rows if row.split != "val"]
    assert {row.split for row in verb._calibration_rows(others)} == {"train"}
    assert len(verb._evenly(others, 10)) <= 10
    assert {row.label for row in verb._evenly(others, 10)} == {"blue", "green", "red"}


def test_an_interrupted_export_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(network: Any, path: Path, *_others: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    run, before = run_of(project), everything(project / "runs")
    monkeypatch.setattr(formats, "write", half)
    with pytest.raises(KeyboardInterrupt):
        verb.export(run, ExportConfig("onnx"))
    assert everything(project / "runs") == before


def test_what_does_not_exist_is_a_usage_error(project: Path, imgclf: Run) -> None:
    for options, words in {
        ("--format", "keras", "--quantize", "int8"): "does not support --quantize int8, only none; int8 is supported by litert",
        ("--format", "onnx", "--quantize", "int8"): "int8, only none, float16; int8 is supported by litert",
        ("--tolerance", "2"): "--tolerance must be a number, 0 to 1, or none, not 2.0",
        ("--out", "model.onnx"): "--out model.onnx: the name of a litert file must end with .tflite",
    }.items():
        done = imgclf("export", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "form"), [("mine.tflite", "litert"), ("mine", "saved-model")])
def test_a_file_of_the_users_is_never_written_over(name: str, form: Format, project: Path) -> None:
    write(project / "mine" / "file", b"mine")
    write(project / "mine.tflite", b"mine")
    with pytest.raises(ImgclfError, match="exists already, and an export never overwrites it"):
        verb.export(run_of(project), ExportConfig(form), out=project / name)
    assert (project / "mine.tflite").read_bytes() == (project / "mine" / "file").read_bytes() == b"mine"


def test_no_place_inside_the_data_nor_below_a_file(project: Path) -> None:
    with pytest.raises(ImgclfError, match="is inside the data folder"):
        verb.export(run_of(project), data=project / "data", out=project / "data" / "red" / "model.tflite")
    write(project / "notes", b"milk")
    with pytest.raises(ImgclfError, match="notes: a file, not a folder; give --out another place"):
        verb.export(run_of(project), out=project / "notes" / "1" / "model.tflite")


def test_folders_of_an_export_are_made(project: Path) -> None:
    """As TensorFlow Serving wants a folder for each version."""
    result = verb.export(run_of(project), out=project / "served" / "1" / "model.tflite")
    assert Path(result.path).stat().st_size == result.size_after


def test_a_place_that_tensorflow_cannot_write_is_one_line(project: Path) -> None:
    run, file = run_of(project), write(project / "file", b"")
    note = {"class_names": list(run.class_names), "preprocessing": dataclasses.asdict(run.preprocessing)}
    with pytest.raises(ImgclfError, match=r"file: the export cannot be written: .*[Nn]ot a directory; .* --out"):
        formats.write(run.network(), file / "served", "saved-model", "none", note)


def test_a_missing_package_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImgclfError,
        match=r"--format onnx needs onnx and onnxruntime and tf2onnx; to install, run: python -m pip install 'onnx>=",
    ):
        verb.check(ExportConfig("onnx"), None)
    verb.check(ExportConfig("litert", "int8"), None)


def test_images_that_moved_changed_or_are_gone(project: Path, runs: dict[str, Bundle]) -> None:
    run = run_of(project)
    moved = Bundle(run.path, dataclasses.replace(run.info, data=dataclasses.replace(run.info.data, path=str(project / "gone"))))
    with pytest.raises(ImgclfError, match=r"data folder is no longer there.*imgclf export FOLDER"):
        verb.export(moved)
    rows = [row for row in read_manifest(run.path / "split.csv").rows if row.split == "test"]
    (project / "data" / rows[0].path).unlink()
    shutil.copy(project / "data" / rows[2].path, project / "data" / rows[1].path)
    result = verb.export(moved, data=project / "data")
    assert result.images == 7
    assert result.notes == ("skipped images of the run's split that are missing or have changed: 2",)
    with pytest.raises(ImgclfError, match="none of them exists unchanged"):
        verb.export(run, data=Path(runs["two"].info.data.path))


def test_without_a_test_part_the_validation_part_is_asked(tmp_path: Path) -> None:
    make_classes(tmp_path / "data" / "train", {"a": 8, "b": 8})
    make_classes(tmp_path / "data" / "val", {"a": 4, "b": 4}, size=33)
    splitting.split(tmp_path / "data")
    run = train(tmp_path / "data", TrainConfig(epochs=1, batch_size=8), run_dir=tmp_path / "run")
    assert run is not None
    result = verb.export(run)
    assert (result.subset, result.images) == ("val", 8)


def test_usage_errors_come_from_python_too(project: Path) -> None:
    with pytest.raises(UsageError, match="does not support"):
        verb.export(run_of(project), ExportConfig("saved-model", "float16"))


@pytest.mark.long
def test_a_backbone_exports_in_every_way(tmp_path: Path) -> None:
    make_classes(tmp_path / "data", {"a": 20, "b": 20, "c": 20}, size=64)
    splitting.split(tmp_path / "data")
    config = TrainConfig(epochs=5, model="efficientnet-lite0", image_size=64)
    run = train(tmp_path / "data", config, run_dir=tmp_path / "run")
    assert run is not None
    for form, quantize in ALL:
        result = verb.export(run, ExportConfig(form, quantize))
        assert result.agreement == 1
        assert result.difference < {"none": 1e-4, "float16": 0.02, "int8": 0.3}[quantize]
        assert about(result)["model"] == "efficientnet-lite0"


@pytest.mark.long
@pytest.mark.parametrize("name", ["convnext-tiny", "densenet121"])
def test_a_backbone_whose_layers_onnx_lacks_is_written_with_others(name: Model, tmp_path: Path) -> None:
    network = cnn.transferred(cnn.Pretrained(name, 64, "none"), 3, seed=0)
    random = np.random.default_rng(0)
    for weight in network.weights:  # those that start alike, as a normalisation's, would hide each other
        if np.ptp(weight.numpy()) == 0:
            weight.assign(weight.numpy() + random.uniform(0.05, 0.3, weight.shape))
    whole = formats.calibrated(network, 1.7)
    pixels = random.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    note = {"class_names": ["a", "b", "c"], "preprocessing": dataclasses.asdict(Preprocessing(64, 64))}
    formats.write(whole, tmp_path / "model.onnx", "onnx", "none", note)
    answer = formats.open_exported(tmp_path / "model.onnx", "onnx")
    expected = whole.predict_on_batch(pixels.astype(np.float32))
    assert np.ptp(expected, axis=0).min() > 1e-4
    np.testing.assert_allclose([answer(image) for image in pixels], expected, atol=2e-6)

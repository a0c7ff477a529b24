"""Every field of every config is checked, wherever it comes from; every field of the preprocessing counts or is refused."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from conftest import Run, photo

from imgclf.core import fields
from imgclf.core.config import (
    DECODER_VERSION,
    AuditConfig,
    ExportConfig,
    Preprocessing,
    PreviewConfig,
    ServeConfig,
    SplitConfig,
    TrainConfig,
)
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import Checked, Within
from imgclf.images import preprocess
from imgclf.models import run_info
from imgclf.models.bundle import Bundle
from imgclf.train import resume

# Values that each field refuses beside those that no field takes: (values, words).
WRONG: dict[type[Checked], dict[str, tuple[list[Any], str]]] = {
    TrainConfig: {
        "epochs": ([0, -1, 10**9], "a whole number, 1 to 1000000"),
        "batch_size": ([0], "a whole number, 1 to 1000000"),
        "image_size": ([15, 1025, 10**9], "a whole number, 16 to 1024, or none"),
        "aspect": (["centre", ""], "one of squash, crop, pad"),
        "model": (["resnet9"], "one of cnn, cnn-small, cnn-large"),
        "weights": ([], "text"),
        "views": ([0, 65], "a whole number, 1 to 64"),
        "fine_tune": ([-1], "a whole number, 0 or more"),
        "fine_tune_epochs": ([0], "a whole number, 1 to 1000000, or none"),
        "precision": (["float64"], "one of auto, float32, bfloat16, float16"),
        "augment": (["weak"], "one of none, light, strong"),
        "flip": ([0, 1], "true or false"),
        "progressive": (["no"], "true or false"),
        "learning_rate": ([0, -0.1, 10, math.nan, math.inf], "a number, above 0 and below 10"),
        "lr_schedule": (["linear"], "one of cosine, plateau, constant, one-cycle"),
        "early_stopping": ([-1], "a whole number, 0 or more, or none"),
        "label_smoothing": ([-0.1, 0.5, math.nan], "a number, 0 to below 0.5"),
        "weight_decay": ([-1, 100, math.nan], "a number, 0 to below 100, or none"),
        "ema": ([-0.1, 1, math.nan], "a number, 0 to below 1"),
        "class_weights": ([], "text"),
        "time_budget": ([0, -1.0, math.nan, math.inf], "a number, above 0, or none"),
        "tensorboard": ([1], "true or false"),
        "seed": ([-1, 2**31], "a whole number, 0 to 2147483647"),
        "fold": ([0], "a whole number, 1 or more, or none"),
    },
    Preprocessing: {
        "height": ([0, -5, 1025, 10**9, 10**5000], "a whole number, 1 to 1024"),
        "width": ([0, -5, 200_000], "a whole number, 1 to 1024"),
        "aspect": (["centre"], "one of squash, crop, pad"),
        "kernel": (["nearest", "linear"], "area-linear"),
        "colour": (["bgr", "RGB"], "rgb"),
        "decoder": ([0, -1], "a whole number, 1 or more"),
    },
    SplitConfig: {
        "train": ([0, -0.1, 1.1, math.nan], "a number, above 0 and up to 1"),
        "val": ([-0.1, 70, math.nan], "a number, 0 to 1"),
        "test": ([-0.1, 1.5, math.nan], "a number, 0 to 1"),
        "seed": ([-1, 2**31], "a whole number, 0 to 2147483647"),
        "group_by": ([], "text, or none"),
        "groups": ([Path("groups.csv")], "text, or none"),
        "stable": ([1], "true or false"),
    },
    ServeConfig: {
        "host": ([], "text"),
        "port": ([-1, 65536], "a whole number, 0 to 65535"),
        "threshold": ([-0.1, 1.1, math.nan], "a number, 0 to 1"),
        "token": ([], "text, or none"),
        "timeout": ([0, 3601, math.nan], "a number, 0.1 to 3600"),
        "queue": ([0], "a whole number, 1 or more"),
        "workers": ([0, 65], "a whole number, 1 to 64"),
        "root_path": ([], "text"),
        "allowed_host": ([(1,), ("a", None)], "several texts"),
        "proxy": ([(1,)], "several texts"),
    },
}
SOUND: dict[type[Checked], dict[str, Any]] = {config: {} for config in WRONG} | {Preprocessing: {"height": 16, "width": 24}}
FIELDS = [(config, field.name) for config in WRONG for field in dataclasses.fields(config)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=[f"{config.__name__}-{name}" for config, name in FIELDS])
def test_every_field_is_checked(config: type[Checked], name: str) -> None:
    """A field that is new needs a line above."""
    wrong, words = WRONG[config][name]
    allows = [json.loads(json.dumps(getattr(config(**SOUND[config]), name)))]
    label = f"preprocessing: {name}" if config is Preprocessing else f"--{name.replace('_', '-')}"
    for value in [*wrong, [], {}, b"x", object(), *([None] if None not in allows and "none" not in words else [])]:
        with pytest.raises(UsageError) as raised:
            config(**{**SOUND[config], name: value})
        assert str(raised.value).startswith(f"{label} must be {words}")
        assert ", not " in str(raised.value)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300
    takes = {"true or": (bool,), "a whole": (int,), "a numbe": (int, float), "several": ()}.get(words[:7], (str,))
    for other in (True, 3, 2.5, "x"):  # of another type; a bool is no number
        if type(other) not in takes:
            with pytest.raises(UsageError, match=f"{label} must be "):
                config(**{**SOUND[config], name: other})


@pytest.mark.parametrize("config", WRONG)
def test_a_file_has_all_fields_and_no_other(config: type[Checked]) -> None:
    whole = dataclasses.asdict(config(**SOUND[config]))  # type: ignore[call-overload]
    assert config.from_dict(json.loads(json.dumps(whole))) == config(**SOUND[config])
    for name in whole:
        with pytest.raises(UsageError, match="is missing"):
            config.from_dict({key: value for key, value in whole.items() if key != name})
    with pytest.raises(UsageError, match="gamma is unknown"):
        config.from_dict({**whole, "gamma": 1})
    for value in (None, [], "x", 3):
        with pytest.raises(UsageError, match="expected a JSON object"):
            config.from_dict(value)


def test_shares_add_up() -> None:
    with pytest.raises(UsageError, match=r"--train, --val and --test must add up to 1, not 0.9"):
        SplitConfig(train=0.6)
    assert SplitConfig(train=0.7, val=0.3, test=0).test == 0


def test_what_a_config_can_be_made_of() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(Checked):
        value: bytes = b""

    with pytest.raises(TypeError, match="this type cannot be validated"):
        Odd()
    assert str(Within(1, 5, above=True)) == "above 1 and up to 5"
    assert fields.bounds(TrainConfig, "image_size") == {"min": 16, "max": 1024}
    assert fields.bounds(TrainConfig, "flip") == {}

    @dataclasses.dataclass(frozen=True)
    class Nested(Checked):
        value: Annotated[int, Within(0)] | None = None
        other: Literal["a", "b"] = "a"

    assert Nested(3, "b") == Nested(value=3, other="b")


# -- preprocessing: every field selects code, or a file with another value is refused -----


def signed(run: Path, **changes: Any) -> Path:
    """A run whose preprocessing is changed, signed as if imgclf had written it."""
    info = json.loads((run / "bundle.json").read_bytes())
    info["preprocessing"] |= changes
    preprocessing = object.__new__(Preprocessing)
    for name, value in info["preprocessing"].items():
        object.__setattr__(preprocessing, name, value)
    return sign(run, info | {"preprocessing_hash": preprocessing.hash})


def sign(run: Path, info: dict[str, Any]) -> Path:
    (run / "bundle.json").write_text(json.dumps({**info, "checksum": run_info.checksum(info)}))
    return run


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda info: info.pop("class_weights"), "class_weights"),
        (lambda info: info["files"].pop("model.keras"), "files.model.keras"),
        (lambda info: info["data"].update(path="a\0b"), "data.path"),
    ],
)
def test_what_commands_read_of_a_bundle_is_there(
    change: Callable[[dict[str, Any]], None], word: str, trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained / "runs/toy", tmp_path / "toy")
    info = json.loads((run / "bundle.json").read_bytes())
    change(info)
    with pytest.raises(ImgclfError, match=f"broken run: {word} is (missing|invalid: )"):
        Bundle.load(sign(run, info))


OTHER: dict[str, list[Any]] = {
    "height": [48, 0, -5, 10**9, "64", 64.0, True, None],
    "width": [48, 0, -5, 10**9, 60_000],
    "aspect": ["crop", "pad", "centre", None],
    "kernel": ["nearest", "area", None],
    "colour": ["bgr", "grey", 3],
    "decoder": [DECODER_VERSION - 1, DECODER_VERSION + 1, 99, 0, -1, "1", True],
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Preprocessing)])
def test_every_field_of_a_preprocessing_counts(name: str, trained: Path, tmp_path: Path) -> None:
    """Another value gives other pixels, or does not load; a field that is new needs a line above."""
    sound = Bundle.load(trained / "runs/toy").preprocessing
    image = np.asarray(photo(1, 90, 60))
    for value in OTHER[name]:
        run = shutil.copytree(trained / "runs/toy", tmp_path / "toy", dirs_exist_ok=True)
        try:
            found = Bundle.load(signed(run, **{name: value}))
            pixels = preprocess.apply(found.preprocessing, image)
            found.probability(pixels)
        except ImgclfError as error:
            assert str(error).startswith(str(run))
            assert "\n" not in str(error)
            continue
        assert name == "aspect"
        assert not np.array_equal(pixels, preprocess.apply(sound, image))


COMMANDS = {
    "predict": ["predict", "data/red/000.png", "--run", "toy"],
    "evaluate": ["evaluate", "--run", "toy"],
    "compare": ["compare", "toy", "toy"],
    "explain": ["explain", "data/red/000.png", "--run", "toy"],
    "export": ["export", "--run", "toy"],
    "serve": ["serve", "toy", "--port", "0"],
    "info": ["info", "toy"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_other_pixels(command: str, project: Path, imgclf: Run) -> None:
    words = {
        DECODER_VERSION + 1: (
            f"made with image decoder {DECODER_VERSION + 1} of a newer imgclf; this version has decoder {DECODER_VERSION}"
        )
    }
    if DECODER_VERSION > 1:
        words[1] = f"made with image decoder 1, but this version of imgclf has decoder {DECODER_VERSION}; train again"
    for decoder, expected in words.items():
        signed(project / "runs/toy", decoder=decoder)
        done = imgclf(*COMMANDS[command])
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"imgclf: error: runs/toy/bundle.json: {expected}")
        assert done.stderr.count("\n") == 1


def test_an_older_decoder_asks_for_a_new_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgclf.core.config.DECODER_VERSION", 7)
    with pytest.raises(ImgclfError, match=r"made with image decoder 6, but .* has decoder 7; train again with `imgclf train`"):
        Preprocessing(16, 16, decoder=6)
    with pytest.raises(
        ImgclfError, match="made with image decoder 8 of a newer imgclf; this version has decoder 7: update imgclf"
    ):
        Preprocessing(16, 16, decoder=8)


def test_resume_takes_nothing_that_training_would_not(project: Path) -> None:
    """Options and preprocessing of config.json are checked before anything is prepared."""
    run = project / "runs/toy"
    (run / "bundle.json").unlink()
    stored = json.loads((run / "config.json").read_bytes())
    for changes, words in (
        ({"epochs": True}, "--epochs must be a whole number"),
        ({"aspect": "centre"}, "--aspect must be one of squash, crop, pad, not 'centre'"),
        ({"learning_rate": math.nan}, "config.json: cannot be read: NaN is not a finite number"),
        ({"learning_rate": 10}, "--learning-rate must be a number, above 0 and below 10, not 10"),
        ({"gamma": 1}, "--gamma is unknown"),
        ({"views": 2}, "are for pretrained backbones, not for --model cnn"),
        ({"preprocessing": {**stored["preprocessing"], "decoder": 99}}, "made with image decoder 99 of a newer imgclf"),
        (
            {"preprocessing": {**stored["preprocessing"], "kernel": "nearest"}},
            "preprocessing: kernel must be area-linear, not 'nearest'",
        ),
        ({"preprocessing": {**stored["preprocessing"], "height": 48}}, "its preprocessing does not match its options"),
        ({"weights_of_classes": [0, 1, 1]}, "weights_of_classes must be positive numbers"),
        ({"schema": "config/2"}, "schema 'config/2', but this version of imgclf reads config/1"),
        ({"preprocessing": None}, "Preprocessing: expected a JSON object with height, width"),
    ):
        (run / "config.json").write_text(json.dumps(stored | changes))
        with pytest.raises(ImgclfError) as raised:
            resume(str(run))
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
        assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), True), (("format",), 0), (("calibration", "temperature"), math.nan), (("calibration", "temperature"), 0),
        (("class_names",), ["cats", "cats", "dogs"]), (("class_names",), [1, 2, 3]), (("class_names",), "abc"),
        (("class_names",), [".imgclf", "b", "c"]), (("class_names",), ["\x1b]0;pwn\x07", "b", "c"]),
        (("class_names",), ["a" * 300, "b", "c"]), (("class_names",), ["\ud800", "b", "c"]),
        (("class_names",), ["a/b", "b", "c"]),
        (("metrics", "val_accuracy"), math.nan), (("metrics", "val_accuracy"), 2), (("metrics", "epochs"), 1e400),
        (("metrics", "epochs"), True), (("data", "path"), 3), (("config", "aspect"), "centre"), (("config", "seed"), "0"),
        (("calibration", "thresholds"), [[math.nan, 1, 1]]), (("calibration", "thresholds"), [["x", "y", "z"]]),
        (("preprocessing",), None), (("preprocessing",), []), (("config",), None),
    ],
)  # fmt: skip
def test_absurd_values_of_a_bundle_are_one_line(place: tuple[str, ...], value: Any, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "runs/toy", tmp_path / "toy")
    info = json.loads((run / "bundle.json").read_bytes())
    inner = info
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ImgclfError) as raised:
        Bundle.load(sign(run, info))
    assert str(raised.value).startswith(f"{run}/bundle.json: ")
    assert "\n" not in str(raised.value).replace("\\n", "")


def test_arguments_of_functions_are_checked_like_options(trained: Path, tmp_path: Path) -> None:
    """What the command line refuses, Python is refused too, before anything is read or written."""
    from imgclf import explain, predict
    from imgclf.audit import auditing, writing
    from imgclf.clean import cleaning
    from imgclf.evaluate import evaluating
    from imgclf.export import exporting
    from imgclf.preview import overview

    run, data = Bundle.load(trained / "runs/toy"), trained / "data"
    odd: Any = "odd"
    for call, words in (
        (
            lambda: auditing.audit(data, AuditConfig(image_size=8)),
            "--image-size must be a whole number, 32 to 1024, or none, not 8",
        ),
        (lambda: auditing.audit(data, AuditConfig(seed=-1)), "--seed must be a whole number, 0 to 2147483647, not -1"),
        (lambda: writing.check_relabel(math.nan), "--relabel must be a number, above 0 and up to 1, or none, not nan"),
        (lambda: overview.preview(data, PreviewConfig(columns=0)), "--columns must be a whole number, 1 to 40, not 0"),
        (lambda: predict.predict(run, [], top=0), "--top must be a whole number, 1 or more, not 0"),
        (lambda: predict.predict(run, [], threshold=2), "--threshold must be a number, 0 to 1, not 2"),
        (
            lambda: list(explain.explain(run, [], tmp_path, method=odd)),
            "--method must be one of occlusion, grad-cam, not 'odd'",
        ),
        (
            lambda: exporting.export(run, ExportConfig(odd)),
            "--format must be one of litert, onnx, saved-model, keras, not 'odd'",
        ),
        (
            lambda: exporting.export(run, ExportConfig("litert", odd)),
            "--quantize must be one of none, float16, int8, not 'odd'",
        ),
        (
            lambda: exporting.export(run, ExportConfig(tolerance=math.nan)),
            "--tolerance must be a number, 0 to 1, or none, not nan",
        ),
        (lambda: evaluating.evaluate(run, None, odd), "--split must be one of train, val, test, or none, not 'odd'"),
        (lambda: cleaning.clean(data, policy=odd, dry_run=True), "--policy must be one of default, strict, report, not 'odd'"),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert str(raised.value) == words

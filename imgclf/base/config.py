"""Everything a user can choose, as frozen values that travel to and from JSON."""

import dataclasses
import json
from typing import Any, Literal

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

Aspect = Literal["squash", "crop", "pad"]
Augment = Literal["none", "light", "strong"]
Backbone = Literal[
    "efficientnet-lite0", "resnet50", "resnet50v2", "vgg16", "vgg19", "mobilenetv2", "mobilenetv3-large", "efficientnetv2-b0",
    "densenet121", "convnext-tiny",
]  # fmt: skip
Model = Literal["cnn", "cnn-small", "cnn-large", Backbone, "auto"]
SCRATCH: tuple[Model, ...] = ("cnn", "cnn-small", "cnn-large")
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Schedule = Literal["cosine", "plateau", "constant", "one-cycle"]
Link = Literal["hard", "symlink", "copy"]
Policy = Literal["default", "strict", "report"]
Format = Literal["litert", "onnx", "saved-model", "keras"]
Quantize = Literal["none", "float16", "int8"]

# Raised when the decoder or the resize rule changes what a pixel is: old prepared pixels are then made anew.
DECODER_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How decoded pixels become the model's input; stored in the bundle and the only way back in.

    height, width: the model's input size in pixels. aspect: `squash` ignores the aspect ratio, `crop` takes the
    centre, `pad` adds grey bars. kernel: area when shrinking, linear when enlarging. colour: RGB, 0 to 255.
    """

    height: int
    width: int
    aspect: Aspect = "squash"
    kernel: str = "area-linear"
    colour: str = "rgb"
    decoder: int = DECODER_VERSION

    @property
    def hash(self) -> str:
        """Twelve hex digits that change whenever a pixel could."""
        import hashlib  # here, since `imgclf --help` reads this module and should not wait for it

        return hashlib.sha256(to_json(self).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Shares of train, validation and test (they add to 1), and the seed of the shuffle.

    What is never torn apart beside pictures that show the same: paths in which `group_by` (a regular expression) captures the
    same text, or paths that share a group in the CSV file `groups` (columns path and group). stable: by the hash of what a
    picture is and not by a shuffle, so that pictures added later move none that were there.
    """

    train: float = 0.70
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    group_by: str | None = None
    groups: str | None = None
    stable: bool = False


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """How a run is served.

    port: 0 for one that the system chooses. threshold: probability below which the label is `unknown`. token: what a client
    must know, or None. timeout: seconds for one request, from the end of its head to its answer. queue: pictures that may wait
    for a thread, in each process. workers: processes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    threshold: float = 0.0
    token: str | None = None
    timeout: float = 30.0
    queue: int = 128
    workers: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run.

    image_size: pixels a side, or None to choose from the pictures. progressive: whether the first epochs see smaller ones.
    weights: of a backbone: `imagenet`, `none` or a file. views: of each training picture that a backbone sees, the picture
    itself and changed ones. fine_tune: how many of its top blocks are trained too, once the head is, for fine_tune_epochs
    (a fifth of epochs, at least three, for None). flip: whether a mirrored picture still shows its class. learning_rate:
    Adam's step size at its peak. early_stopping: epochs without improvement before the training ends; None for one that
    suits the schedule, 0 for never. weight_decay: Adam's decoupled one; None for 3 of a head on features, none else. ema:
    how much of the weights' moving average a step keeps, 0 for no average. class_weights: `auto` (when the largest class
    has more than 1.5 times the smallest's pictures), `none`, or a CSV file. time_budget: seconds for all of it. fold: which
    of `split --folds`.
    """

    epochs: int = 30
    batch_size: int = 32
    image_size: int | None = None
    aspect: Aspect = "squash"
    model: Model = "cnn"
    weights: str = "imagenet"
    views: int = 1
    fine_tune: int = 0
    fine_tune_epochs: int | None = None
    precision: Precision = "auto"
    augment: Augment = "light"
    flip: bool = True
    progressive: bool = True
    learning_rate: float = 3e-3
    lr_schedule: Schedule = "cosine"
    early_stopping: int | None = None
    label_smoothing: float = 0.1
    weight_decay: float | None = None
    ema: float = 0.0
    class_weights: str = "auto"
    time_budget: float | None = None
    tensorboard: bool = False
    seed: int = 0
    fold: int | None = None


def to_json(value: Any) -> str:
    """A dataclass as one line of JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)

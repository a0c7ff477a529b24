"""Everything a user can choose, as frozen values that travel to and from JSON."""

import dataclasses
import json
from typing import Annotated, Any, Literal

from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import Checked, Within

Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")

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
Seed = Annotated[int, Within(0, 2**31 - 1)]
Fraction = Annotated[float, Within(0, 1)]

# Raised when the decoder or the resize rule changes what a pixel is: old prepared pixels are then made anew.
DECODER_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Preprocessing(Checked):
    """How decoded pixels become the model's input; stored in the bundle and the only way back in.

    height, width: the model's input size in pixels. aspect: `squash` ignores the aspect ratio, `crop` takes the
    centre, `pad` adds grey bars. kernel: area when shrinking, linear when enlarging. colour: RGB, 0 to 255. decoder: the
    decoder version; only the current one is accepted. A field with a single allowed value selects no code, but any other value
    in a file is refused.
    """

    height: Annotated[int, Within(1, 1024)]
    width: Annotated[int, Within(1, 1024)]
    aspect: Aspect = "squash"
    kernel: Literal["area-linear"] = "area-linear"
    colour: Literal["rgb"] = "rgb"
    decoder: Annotated[int, Within(1)] = DECODER_VERSION

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder < DECODER_VERSION:
            raise ImgclfError(
                f"made with image decoder {self.decoder}, but this version of imgclf has decoder {DECODER_VERSION}; "
                "train again with `imgclf train`"
            )
        if self.decoder > DECODER_VERSION:
            raise ImgclfError(
                f"made with image decoder {self.decoder} of a newer imgclf; this version has decoder {DECODER_VERSION}: update"
            )

    @staticmethod
    def _called(name: str) -> str:
        return f"preprocessing: {name}"

    @property
    def hash(self) -> str:
        """Twelve hex digits that change whenever a pixel could."""
        import hashlib  # here, since `imgclf --help` reads this module and should not wait for it

        return hashlib.sha256(to_json(self).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class SplitConfig(Checked):
    """Shares of train, validation and test (they add to 1), and the seed of the shuffle.

    What stays in one subset beside images that show the same: paths in which `group_by` (a regular expression) captures the
    same text, or paths that share a group in the CSV file `groups` (columns path and group). stable: by the hash of what an
    image is and not by a shuffle, so that images added later move none that were there.
    """

    train: Annotated[float, Within(0, 1, above=True)] = 0.70
    val: Fraction = 0.15
    test: Fraction = 0.15
    seed: Seed = 0
    group_by: str | None = None
    groups: str | None = None
    stable: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise UsageError(f"--train, --val and --test must add up to 1, not {self.train + self.val + self.test:g}")

    @property
    def fractions(self) -> dict[Subset, float]:
        """The share of each subset."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclasses.dataclass(frozen=True)
class ServeConfig(Checked):
    """How a run is served.

    port: 0 for one that the system chooses. threshold: probability below which the label is `unknown`. token: what a client
    must know, or None. timeout: seconds for one request, from the end of its head to its answer. queue: images that may wait
    for a thread, in each process. workers: processes. root_path: what a proxy leaves before the paths of requests.
    allowed_host: names that are answered besides this machine's own. proxy: addresses or networks that are believed.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Within(0, 65535)] = 8000
    threshold: Fraction = 0.0
    token: str | None = None
    timeout: Annotated[float, Within(0.1, 3600)] = 30.0
    queue: Annotated[int, Within(1)] = 128
    workers: Annotated[int, Within(1, 64)] = 1
    root_path: str = ""
    allowed_host: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PreviewConfig(Checked):
    """What a contact sheet shows. subset: one subset of the split; None for all images. columns: images per class."""

    subset: Subset | None = None
    columns: Annotated[int, Within(1, 40)] = 8
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class AuditConfig(Checked):
    """The backbone whose features are compared, its weights and side in pixels (None: its own), and the seed."""

    model: Backbone = "efficientnet-lite0"
    weights: str = "imagenet"
    image_size: Annotated[int, Within(32, 1024)] | None = None
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
    """An exported file.

    tolerance: the largest difference of a probability from the run's; for int8 the largest share of images with another label.
    None for 0.0001, and 0.02 for float16 and int8.
    """

    format: Format = "litert"
    quantize: Quantize = "none"
    tolerance: Fraction | None = None

    @property
    def limit(self) -> float:
        """The tolerance, or the default of this kind of numbers."""
        return (1e-4 if self.quantize == "none" else 0.02) if self.tolerance is None else self.tolerance


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
    """One training run.

    image_size: pixels a side, or None to choose from the images. progressive: whether the first epochs see smaller ones.
    weights: of a backbone: `imagenet`, `none` or a file. views: of each training image that a backbone sees, the image
    itself and changed ones. fine_tune: how many of its top blocks are trained too, once the head is, for fine_tune_epochs
    (a fifth of epochs, at least three, for None). flip: whether a mirrored image still shows its class. learning_rate:
    Adam's step size at its peak. early_stopping: epochs without improvement before the training ends; None for one that
    suits the schedule, 0 for never. weight_decay: Adam's decoupled one; None for 3 of a head on features, none else. ema:
    how much of the weights' moving average a step keeps, 0 for no average. class_weights: `auto` (when the largest class
    has more than 1.5 times the smallest's images), `none`, or a CSV file. time_budget: seconds for all of it. fold: which
    of `split --folds`.
    """

    epochs: Annotated[int, Within(1, 1_000_000)] = 30
    batch_size: Annotated[int, Within(1, 1_000_000)] = 32
    image_size: Annotated[int, Within(16, 1024)] | None = None
    aspect: Aspect = "squash"
    model: Model = "cnn"
    weights: str = "imagenet"
    views: Annotated[int, Within(1, 64)] = 1
    fine_tune: Annotated[int, Within(0)] = 0
    fine_tune_epochs: Annotated[int, Within(1, 1_000_000)] | None = None
    precision: Precision = "auto"
    augment: Augment = "light"
    flip: bool = True
    progressive: bool = True
    learning_rate: Annotated[float, Within(0, 10, above=True, below=True)] = 3e-3
    lr_schedule: Schedule = "cosine"
    early_stopping: Annotated[int, Within(0)] | None = None
    label_smoothing: Annotated[float, Within(0, 0.5, below=True)] = 0.1
    weight_decay: Annotated[float, Within(0, 100, below=True)] | None = None
    ema: Annotated[float, Within(0, 1, below=True)] = 0.0
    class_weights: str = "auto"
    time_budget: Annotated[float, Within(0, above=True, below=True)] | None = None
    tensorboard: bool = False
    seed: Seed = 0
    fold: Annotated[int, Within(1)] | None = None


def to_json(value: Any) -> str:
    """A dataclass as one line of JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)

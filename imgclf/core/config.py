"""Configuration of all commands: frozen, validated dataclasses that hold the defaults and can be stored as JSON."""

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

# Increase this when a change to the decoder or to the resize rule changes pixel values. Prepared pixels are then rebuilt.
DECODER_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Preprocessing(Checked):
    """The rule that turns decoded pixels into the model's input. It is stored in the bundle and used by every command.

    A field with a single allowed value does not select code, but a file with any other value is refused.

    Attributes:
        height: Height of the model's input in pixels.
        width: Width of the model's input in pixels.
        aspect: `squash` ignores the aspect ratio, `crop` uses the centre, `pad` adds grey bars.
        kernel: Area averaging to shrink, linear interpolation to enlarge.
        colour: RGB, 0 to 255.
        decoder: Decoder version. Only the current version is accepted.
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
                f"made with image decoder {self.decoder} of a newer imgclf; this version has decoder {DECODER_VERSION}: "
                "update imgclf"
            )

    @staticmethod
    def _called(name: str) -> str:
        return f"preprocessing: {name}"

    @property
    def hash(self) -> str:
        """Hash of all fields, as twelve hexadecimal digits. Equal hashes mean equal pixels."""
        import hashlib  # here, because `imgclf --help` imports this module and must start fast

        return hashlib.sha256(to_json(self).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class SplitConfig(Checked):
    """How images are split. Images that show the same always stay in one subset; `group_by` and `groups` add more groups.

    Attributes:
        train: Fraction of the images for training. The three fractions add up to 1.
        val: Fraction of the images for validation.
        test: Fraction of the images for testing.
        seed: Seed of the shuffle.
        group_by: Regular expression. Paths in which it captures the same text form a group.
        groups: CSV file with the columns path and group.
        stable: Choose the subset by a hash of the image content, not by a shuffle. Images that are added later then do not
            move existing images to another subset.
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
        """The fraction of each subset."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclasses.dataclass(frozen=True)
class ServeConfig(Checked):
    """How a run is served over HTTP.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose a free one.
        threshold: Probability below which the label is `unknown`.
        token: Bearer token that requests must send; None to require none.
        timeout: Seconds for one request, from the end of its headers to the response.
        queue: Maximum number of images that wait for a thread, per process.
        workers: Number of processes.
        root_path: Path prefix that a proxy puts before the paths of requests.
        allowed_host: Host names that requests may use, besides the names of this machine.
        proxy: Addresses or networks of proxies whose forwarding headers are trusted.
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
    """The content of a contact sheet. subset: one subset of the split; None for all images. columns: images per class."""

    subset: Subset | None = None
    columns: Annotated[int, Within(1, 40)] = 8
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class AuditConfig(Checked):
    """How features are computed and scored.

    Attributes:
        model: Backbone that computes the features.
        weights: `imagenet`, `none` or a file.
        image_size: Side of the backbone's input in pixels; None for its default.
        seed: Seed of the cross-validation folds.
    """

    model: Backbone = "efficientnet-lite0"
    weights: str = "imagenet"
    image_size: Annotated[int, Within(32, 1024)] | None = None
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class ExportConfig(Checked):
    """How a run is exported.

    Attributes:
        format: File format.
        quantize: Number format of the weights.
        tolerance: Maximum difference between a probability of the exported file and of the run; for int8, maximum fraction of
            images with a different label. None for 0.0001, or 0.02 with float16 and int8.
    """

    format: Format = "litert"
    quantize: Quantize = "none"
    tolerance: Fraction | None = None

    @property
    def limit(self) -> float:
        """The tolerance, or the default for `quantize`."""
        return (1e-4 if self.quantize == "none" else 0.02) if self.tolerance is None else self.tolerance


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
    """How a network is trained.

    Attributes:
        image_size: Side of the input in pixels; None to choose it from the images.
        weights: Initial weights of a backbone: `imagenet`, `none` or a file.
        views: Number of views of each training image for a frozen backbone: the original and `views - 1` augmented copies.
        fine_tune: Number of top blocks of the backbone to train after the head.
        fine_tune_epochs: Epochs of this second stage; None for a fifth of `epochs`, but at least three.
        flip: Flip images horizontally at random.
        progressive: Train the first epochs on smaller images.
        learning_rate: Peak learning rate of Adam.
        early_stopping: Epochs without improvement before the training ends; None for the default of the schedule, 0 to
            turn it off.
        weight_decay: Decoupled weight decay of Adam; None for 3 for a head on features, and 0 for other networks.
        ema: Decay of the exponential moving average of the weights; 0 turns it off.
        class_weights: `auto` (weights, if the largest class has more than 1.5 times as many images as the smallest),
            `none`, or a CSV file.
        time_budget: Seconds for the whole training; None for no limit.
        fold: Fold of `split --folds` to train on, from 1.
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
    """Return a dataclass as one line of JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)

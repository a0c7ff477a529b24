"""Save a network as a .keras file that older versions of Keras 3 can open, too."""

import importlib
import inspect
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.core.files import reading
from imgclf.images.archives.zips import BoundedZip
from imgclf.models import keras_settings

if TYPE_CHECKING:
    import keras

_CONFIG = "config.json"
_FILES = (_CONFIG, "metadata.json", "model.weights.h5")
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")  # suffixes of fields that a built layer no longer needs


@keras_settings.pinned()
def save(network: "keras.Model", path: Path) -> None:
    """Write `network` to a .keras file with as few config fields as possible.

    Each version of Keras writes fields that earlier versions refuse, nearly always with their default value.
    """
    network.save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content[_CONFIG] = json.dumps(_plain(json.loads(content[_CONFIG]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def check(path: Path) -> None:
    """Check that a .keras file contains the three files that `save` writes, uncompressed and undamaged.

    Keras unpacks the files into memory without a limit on their size.

    Raises:
        ValueError: The content is different.
        ImgclfError: The file cannot be read.
    """
    with reading.opened(path) as file, BoundedZip(file) as whole, zipfile.ZipFile(whole) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != sorted(_FILES):
            raise ValueError("it contains other files than Keras writes")
        size = os.fstat(file.fileno()).st_size
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
            raise ValueError("the content is compressed")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")


def _plain(value: Any) -> Any:
    """Remove default values, and fields that only a new layer needs, from all levels of a Keras config."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _plain(item) for key, item in value.items()}
    if isinstance(value.get("config"), dict):
        defaults = _defaults(value.get("module"), value.get("class_name"))
        value["config"] = {
            name: item
            for name, item in value["config"].items()
            if not name.endswith(_FOR_TRAINING) and not _is_default(item, defaults.get(name, inspect.Parameter.empty))
        }
    return value


def _defaults(module: str | None, name: str | None) -> dict[str, Any]:
    """Return the default arguments of a Keras class.

    Empty for whole networks. For classes with their own `from_config`, which may require the other fields, only None values.
    """
    import keras

    if not module or not name or not module.startswith("keras."):
        return {}
    kind: Any = getattr(importlib.import_module(module), name, None)
    bases = (keras.layers.Layer, keras.optimizers.Optimizer, keras.initializers.Initializer)
    is_supported = inspect.isclass(kind) and issubclass(kind, bases) and not issubclass(kind, keras.Model)
    if not is_supported:
        return {}
    has_own_reader = kind.from_config.__func__ not in [base.from_config.__func__ for base in bases]
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    return {name: default for name, default in defaults.items() if default is None or not has_own_reader}


def _is_default(item: Any, default: Any) -> bool:
    return type(item) is type(default) and bool(item == default)

"""Save a network as a .keras file that older versions of Keras 3 can open too."""

import importlib
import inspect
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.core.files import reading
from imgclf.images.archives.zips import Directory
from imgclf.models import keras_settings

if TYPE_CHECKING:
    import keras

_CONFIG = "config.json"
_FILES = (_CONFIG, "metadata.json", "model.weights.h5")
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")  # endings of fields that a built layer no longer needs


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
    """Raise ValueError unless a .keras file holds what `save` writes: three files that are not compressed, all of them whole.

    Keras unpacks them into memory, whatever their sizes. Raises ImgclfError for what cannot be read.
    """
    with reading.opened(path) as file, Directory(file) as whole, zipfile.ZipFile(whole) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != sorted(_FILES):
            raise ValueError("other files than Keras writes")
        size = os.fstat(file.fileno()).st_size
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
            raise ValueError("its content is compressed")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")


def _plain(value: Any) -> Any:
    """A Keras config, at all levels, without defaults and without fields that only a new layer needs."""
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
    """Default arguments of a Keras class.

    Empty for whole networks. Only None values for classes with their own `from_config`, which may require the other fields.
    """
    import keras

    if not module or not name or not module.startswith("keras."):
        return {}
    found: Any = getattr(importlib.import_module(module), name, None)
    usual = (keras.layers.Layer, keras.optimizers.Optimizer, keras.initializers.Initializer)
    is_one = inspect.isclass(found) and issubclass(found, usual) and not issubclass(found, keras.Model)
    if not is_one:
        return {}
    reads_itself = found.from_config.__func__ not in [one.from_config.__func__ for one in usual]
    defaults = {name: one.default for name, one in inspect.signature(found).parameters.items()}
    return {name: default for name, default in defaults.items() if default is None or not reads_itself}


def _is_default(item: Any, default: Any) -> bool:
    return type(item) is type(default) and bool(item == default)

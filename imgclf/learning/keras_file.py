"""A network as a .keras file that older versions of Keras 3 open too."""

import importlib
import inspect
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.learning import keras_settings

if TYPE_CHECKING:
    import keras

_CONFIG = "config.json"
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")  # endings of what an already built layer no longer needs


@keras_settings.pinned()
def save(network: "keras.Model", path: Path) -> None:
    """Write `network` to a .keras file, its layers described by as few fields as can be.

    Each version of Keras writes fields that earlier ones refuse, nearly always with a value that changes nothing.
    """
    network.save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content[_CONFIG] = json.dumps(_plain(json.loads(content[_CONFIG]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def _plain(value: Any) -> Any:
    """A description of Keras', and all that is in it, without defaults and without what only a new layer needs."""
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
    """What a class of Keras' own takes for arguments that are not given.

    Nothing for whole networks; None alone for classes that read their description themselves and may miss a field.
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

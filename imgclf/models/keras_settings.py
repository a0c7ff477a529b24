"""Run Keras with fixed settings, independent of keras.json, the environment and the calling program."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from imgclf.core.errors import ImgclfError
from imgclf.reports import plots

# Keras reads these on import. The null device contains no keras.json, and none can be written there.
_AT_IMPORT = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
_NOT_AT_IMPORT = ("KERAS_NNX_ENABLED", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")
_NEVER = ("TF_USE_LEGACY_KERAS",)  # TensorFlow reads it whenever it uses Keras
_WANTED: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}

_loading, _lock = threading.Lock(), threading.Lock()
_users = 0  # number of open blocks, in all threads
_undo: Callable[[], None]  # restores the settings from before the first block


@contextlib.contextmanager
def pinned(policy: str = "float32") -> Iterator[None]:
    """Use imgclf's Keras settings and a dtype policy inside the block, and restore the old ones afterwards.

    All code that uses Keras runs inside such a block. Blocks may be nested and open in several threads. The settings apply to
    the whole process, the policy only to the thread. Raises ImgclfError if Keras already runs on another backend.
    """
    global _users, _undo
    keras = load()
    with _lock:
        if not _users:
            _undo = _set(keras)
        _users += 1
    usual = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        yield
    finally:
        keras.config.set_dtype_policy(usual)
        with _lock:
            _users -= 1
            if not _users:
                _undo()


def load() -> Any:
    """Import Keras and TensorFlow without the user's settings, and return the module keras.

    Call it before the first `import tensorflow`, which reads keras.json too.
    """
    with _loading:
        if "keras" not in sys.modules:
            plots.load_matplotlib()  # otherwise Keras imports it with the user's settings
            home = _usual_home()
            with _environment(_AT_IMPORT, (*_NOT_AT_IMPORT, *_NEVER)):
                import keras.src.backend.config
                import tensorflow  # noqa: F401

                keras.src.backend.config._KERAS_DIR = home  # keep pretrained weights in Keras' usual folder
        import keras

    if keras.config.backend() != "tensorflow":
        raise ImgclfError(
            f"Keras uses the {keras.config.backend()} backend in this process, but imgclf needs TensorFlow; "
            "start the process again with the environment variable KERAS_BACKEND=tensorflow"
        )
    return keras


def _usual_home() -> str:
    """The folder where Keras normally stores downloads."""
    above = os.path.expanduser("~")
    return os.environ.get("KERAS_HOME") or os.path.join(above if os.access(above, os.W_OK) else "/tmp", ".keras")


def _set(keras: Any) -> Callable[[], None]:
    """Apply our settings to the whole process, and return a function that restores the old ones."""
    keras.config.dtype_policy()  # Keras derives it from floatx on first use, so read it before floatx changes
    before = {name: getattr(keras.config, name)() for name in _WANTED}
    stack = contextlib.ExitStack()
    stack.enter_context(_environment({}, _NEVER))
    _apply(keras, _WANTED)
    stack.callback(_apply, keras, before)
    return stack.close


def _apply(keras: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        getattr(keras.config, f"set_{name}")(value)


@contextlib.contextmanager
def _environment(wanted: dict[str, str], unwanted: tuple[str, ...]) -> Iterator[None]:
    """Set and unset environment variables inside the block."""
    names = (*wanted, *unwanted)
    before = {name: os.environ.get(name) for name in names}
    for name in unwanted:
        os.environ.pop(name, None)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
            if (value := before[name]) is not None:
                os.environ[name] = value

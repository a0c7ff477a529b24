"""Keras as imgclf needs it, whatever the user's keras.json, the environment or the program around us have set."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from imgclf.base.errors import ImgclfError
from imgclf.display import plots

# Read by Keras once, when it is imported. The null device has no keras.json in it, and none can be written there.
_AT_IMPORT = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
_NOT_AT_IMPORT = ("KERAS_NNX_ENABLED", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")
_NEVER = ("TF_USE_LEGACY_KERAS",)  # read by TensorFlow whenever it needs Keras
_WANTED: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}

_loading, _lock = threading.Lock(), threading.Lock()
_users = 0  # blocks that are open, in all threads
_undo: Callable[[], None]  # puts back what the process had before the first of them


@contextlib.contextmanager
def pinned(policy: str = "float32") -> Iterator[None]:
    """Keras with imgclf's settings and a dtype policy while the block runs, then with those that it had before.

    Wherever Keras is used, it is inside such a block; they may be nested, and open in several threads. The settings belong
    to the whole process, but for the policy, which belongs to the thread. Raises ImgclfError where Keras already runs on
    another backend.
    """
    global _users, _undo
    keras = load()
    with _lock:
        if not _users:
            _undo = _set(keras)
        _users += 1
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)
        with _lock:
            _users -= 1
            if not _users:
                _undo()


def load() -> Any:
    """The module keras, TensorFlow loaded too; on their first import, no setting of the user's reaches them.

    To be called before the first `import tensorflow`, which reads keras.json too.
    """
    with _loading:
        if "keras" not in sys.modules:
            plots.load_matplotlib()  # which Keras would import under the user's settings
            home = _usual_home()
            with _environment(_AT_IMPORT, (*_NOT_AT_IMPORT, *_NEVER)):
                import keras.src.backend.config
                import tensorflow  # noqa: F401

                keras.src.backend.config._KERAS_DIR = home  # pretrained weights are kept where Keras usually keeps them
        import keras

    if keras.config.backend() != "tensorflow":
        raise ImgclfError(
            f"Keras uses the {keras.config.backend()} backend in this process, but imgclf needs TensorFlow; "
            "start the process again with the environment variable KERAS_BACKEND=tensorflow"
        )
    return keras


def _usual_home() -> str:
    """Where Keras keeps downloads, by its own rule."""
    above = os.path.expanduser("~")
    return os.environ.get("KERAS_HOME") or os.path.join(above if os.access(above, os.W_OK) else "/tmp", ".keras")


def _set(keras: Any) -> Callable[[], None]:
    """Set what we need for the whole process; what is given back puts it as it was."""
    keras.config.dtype_policy()  # made from floatx when it is first asked for: before floatx changes
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
    """Environment variables set, and others not, while the block runs."""
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

"""Write and read the checkpoint of an unfinished run, from which `--resume` continues. Its content is untrusted input."""

import dataclasses
import json
import os
import re
import zipfile
from typing import IO, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImgclfError
from imgclf.core.fields import Checked, Within
from imgclf.core.files import atomic, reading
from imgclf.images.archives.zips import BoundedZip
from imgclf.train.state import CHECKPOINT, Epoch, TrainingState, content
from imgclf.train.trainer import Trainer

_NAME = re.compile(r"(?:state|network-[0-9]{4}|best-[0-9]{4})\.npy")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class _Saved(Checked):
    """The state stored beside the arrays. content: hash of the images, see `content`. tuned_from: as in TrainingState."""

    content: str
    epochs: Annotated[int, Within(1, 1_000_000)]
    factor: Annotated[float, Within(0, 1, above=True)]
    tuned_from: Annotated[int, Within(1, 1_000_000)] | None

    @staticmethod
    def _called(name: str) -> str:
        return f"state: {name}"


def write_checkpoint(state: TrainingState, trainer: Trainer) -> None:
    """Write everything that the next epoch depends on to one file, atomically. A kill loses at most the current epoch."""
    saved = dataclasses.asdict(_Saved(content(state), state.epochs, state.factor, state.tuned_from))
    saved["history"] = [dataclasses.asdict(entry) for entry in state.history]
    arrays = {f"network-{name}": value for name, value in trainer.state().items()}
    arrays |= {f"best-{number:04d}": value for number, value in enumerate(state.best)}
    with atomic.atomic_path(state.run_dir / CHECKPOINT) as temporary:
        np.savez(temporary, allow_pickle=False, state=np.array(json.dumps(saved)), **arrays)


def restore(state: TrainingState) -> dict[str, NDArray[Any]]:
    """Restore the training state from the run's checkpoint, if there is one.

    Returns:
        The arrays for `restore_trainer`; empty without a checkpoint.

    Raises:
        ImgclfError: The checkpoint is unusable, or belongs to other images.
    """
    path = state.run_dir / CHECKPOINT
    if not os.path.lexists(path):
        return {}
    try:
        with reading.opened(path) as file, BoundedZip(file) as whole:
            arrays = _arrays(whole, os.fstat(file.fileno()).st_size)
        text = arrays.pop("state")
        if text.dtype.kind != "U" or text.shape:
            raise ValueError("the state is not text")
        values = reading.json_object(str(text).encode(), path)
        history = values.pop("history")
        saved = _Saved.from_dict(values)
        if not isinstance(history, list):
            raise ValueError("history: expected a list")
        entries = [Epoch.from_dict(entry) for entry in history]
        best = [arrays[name] for name in sorted(arrays) if name.startswith("best-")]
        if bool(entries) != bool(best) or bool(entries) != any(entry.is_best for entry in entries):
            raise ValueError("the history does not match the weights")
        if saved.tuned_from is not None and not saved.tuned_from <= len(entries):
            raise ValueError("state: tuned_from is larger than the number of epochs in the history")
    except ImgclfError as error:
        raise ImgclfError(f"{path}: cannot be used ({error}); start a new run with `imgclf train`") from error
    except _DAMAGED as error:
        raise ImgclfError(
            f"{path}: cannot be used ({error or type(error).__name__}); start a new run with `imgclf train`"
        ) from error
    if saved.content != content(state):
        raise ImgclfError(
            f"{state.run_dir}: the images, their classes or the split have changed since this run started; "
            "restore them, or start a new run with `imgclf train`"
        )
    state.best, state.history = best, entries
    state.epochs, state.factor, state.tuned_from = saved.epochs, saved.factor, saved.tuned_from
    return {name: value for name, value in arrays.items() if name.startswith("network-")}


def _arrays(file: IO[bytes], size: int) -> dict[str, NDArray[Any]]:
    """Read an .npz file, which must be uncompressed, so that the arrays need no more memory than the file has bytes."""
    arrays, total = {}, 0
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            total += entry.file_size
            if not _NAME.fullmatch(entry.filename) or entry.filename[:-4] in arrays:
                raise ValueError(f"unexpected array {entry.filename[:60]!r}")
            if entry.compress_type != zipfile.ZIP_STORED or total > size:
                raise ValueError("the arrays are compressed")
            with archive.open(entry) as member:
                arrays[entry.filename[:-4]] = _array(member, entry.file_size)
    return arrays


def _array(member: IO[bytes], size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"unknown array format {version}")
    shape, is_fortran, dtype = _HEADERS[version](member)
    data = member.read()
    if dtype.kind not in "fiubU" or member.tell() != size or any(length < 0 for length in shape):
        raise ValueError(f"invalid array of type {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def restore_trainer(state: TrainingState, trainer: Trainer, arrays: dict[str, NDArray[Any]]) -> None:
    """Restore the trainer from the arrays that `restore` returned. Raises ImgclfError for a different network."""
    path = state.run_dir / CHECKPOINT
    try:
        trainer.restore(arrays)
        check_best(state.best, trainer.exported.weights)
    except ValueError as error:
        raise ImgclfError(f"{path}: cannot be used ({error}); start a new run with `imgclf train`") from error
    trainer.update_exported()  # no epoch may follow: the run may have been killed after its last one


def check_best(arrays: list[NDArray[Any]], variables: list[Any]) -> None:
    """Raise ValueError unless the best weights have the shapes of the variables and are finite."""
    if arrays and [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise ValueError("the best weights belong to a different network")
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
        raise ValueError("the best weights contain NaN or infinite values")

"""Read tensors from PyTorch checkpoints without PyTorch, and without running code from the pickles."""

import collections
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of files older than the zip format of 2020
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"), "DoubleStorage": np.dtype("<f8"), "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"), "ByteStorage": np.dtype("u1"),
}  # fmt: skip
# The opcodes in the pickles of a state dict. Others could allocate gigabytes before any check.
_OPCODES = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS",
}  # fmt: skip
_DAMAGED = (
    ValueError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a state dict in the old file format, by name, in order.

    The file contains four pickles (magic number, protocol, system information, the dict), a pickled list of storage keys, and
    for each key a count (int64) and the values, little-endian. A tensor is a view of a storage: offset, size, strides.

    Raises:
        ValueError: The file has another format or is damaged.
        OSError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if _load(file) != _MAGIC:
                raise ValueError("not a PyTorch checkpoint of the old format")
            _protocol, _system = _load(file), _load(file)
            views = _load(file)
            storages = dict.fromkeys(_load(file))
            kinds = {view[0][2]: _STORAGES[view[0][1]] for view in views.values()}
            size = path.stat().st_size
            for key in storages:
                length = int.from_bytes(file.read(8), "little") * kinds[key].itemsize
                if length > size:
                    raise ValueError("a storage extends beyond the file")
                storages[key] = np.frombuffer(file.read(length), kinds[key])
            return {name: _tensor(storages[view[0][2]], *view[1:]) for name, view in views.items()}
    except _DAMAGED as error:
        raise ValueError(f"unreadable checkpoint: {error}") from error


def _load(file: IO[bytes]) -> Any:
    """Read the next pickle, after a check of all its steps: only opcodes of a state dict, and no huge memo index."""
    start = file.tell()
    for number, (opcode, argument, _place) in enumerate(pickletools.genops(file)):
        if opcode.name not in _OPCODES or (argument is not None and opcode.name == "LONG_BINPUT" and argument > number):
            raise pickle.UnpicklingError(f"{opcode.name} is not allowed in a state dict")
    file.seek(start)
    return _Tensors(file).load()


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[Any]:
    strides = tuple(step * storage.itemsize for step in stride)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if offset < 0 or min(size, default=1) < 1 or min(stride, default=0) < 0 or last >= len(storage):
        raise ValueError("a tensor extends beyond its storage")
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], size, strides))


def _view(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object) -> tuple[Any, ...]:
    return storage, offset, size, stride


class _Tensors(pickle.Unpickler):
    """Resolves the names that a state dict needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a state dict")

    def persistent_load(self, pid: Any) -> Any:
        return pid

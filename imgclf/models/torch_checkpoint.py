"""Tensors out of PyTorch's checkpoint files, without PyTorch and without running anything that a pickle may ask for."""

import collections
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C  # the number that files from before 2020's zip format begin with
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"), "DoubleStorage": np.dtype("<f8"), "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"), "ByteStorage": np.dtype("u1"),
}  # fmt: skip
# What the pickles of a state dict are made of. Others could ask for gigabytes before anything is checked.
_OPCODES = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS",
}  # fmt: skip
_DAMAGED = (
    ValueError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict in the old file format, by name, in order.

    The file: four pickles (magic number, protocol, measured of the system, the dict), a pickled list of storage keys, then for
    each key a count (int64) and the values, little-endian. A tensor is a view of a storage: offset, size, strides. Raises
    ValueError when it is anything else, OSError when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if _load(file) != _MAGIC:
                raise ValueError("no PyTorch checkpoint of the old format")
            _protocol, _system = _load(file), _load(file)
            views = _load(file)
            storages = dict.fromkeys(_load(file))
            kinds = {view[0][2]: _STORAGES[view[0][1]] for view in views.values()}
            size = path.stat().st_size
            for key in storages:
                length = int.from_bytes(file.read(8), "little") * kinds[key].itemsize
                if length > size:
                    raise ValueError("a storage reaches beyond the file")
                storages[key] = np.frombuffer(file.read(length), kinds[key])
            return {name: _tensor(storages[view[0][2]], *view[1:]) for name, view in views.items()}
    except _DAMAGED as error:
        raise ValueError(f"no checkpoint that can be read: {error}") from error


def _load(file: IO[bytes]) -> Any:
    """The next pickle, once every step of it was checked: none is strange to a state dict, no number out of all reason."""
    start = file.tell()
    for number, (opcode, argument, _place) in enumerate(pickletools.genops(file)):
        if opcode.name not in _OPCODES or (argument is not None and opcode.name == "LONG_BINPUT" and argument > number):
            raise pickle.UnpicklingError(f"{opcode.name} has no place in a state dict")
    file.seek(start)
    return _Tensors(file).load()


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[Any]:
    strides = tuple(step * storage.itemsize for step in stride)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if offset < 0 or min(size, default=1) < 1 or min(stride, default=0) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], size, strides))


def _view(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object) -> tuple[Any, ...]:
    return storage, offset, size, stride


class _Tensors(pickle.Unpickler):
    """Knows the names that a state dict needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")

    def persistent_load(self, pid: Any) -> Any:
        return pid

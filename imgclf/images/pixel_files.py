"""Decoded images at the network's size as lossless files named after their content; all that a worker process loads."""

import contextlib
import hashlib
import os
from pathlib import Path

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.core.files import contained
from imgclf.images import decode, preprocess


def place(store: Path, digest: str) -> Path:
    """Where the image with this content lies."""
    return store / digest[:2] / f"{digest}.bmp"


def is_whole(path: Path, size: int) -> bool:
    """Whether a stored file is there with all its bytes."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def keep(shared: tuple[str, str, Preprocessing, int], item: tuple[str, str]) -> tuple[str, bool, str]:
    """(content hash, whether it was decoded now, why it cannot be used) of an image.

    shared: the data folder, the store, the preprocessing, bytes of a stored file. item: path and content hash, "" if not known.
    """
    root, store, preprocessing, size = shared
    path, digest = item
    if digest and is_whole(place(Path(store), digest), size):
        return digest, False, ""
    try:
        data = decode.read(Path(root, path))
        pixels = preprocess.apply(preprocessing, decode.decode(data))
    except ImageError as error:
        return "", False, str(error)
    digest = hashlib.sha256(data).hexdigest()
    target = place(Path(store), digest)
    # Not synced to disk one by one: a file cut short by a power failure is found by its size above.
    with contained.at(target.parent, make=True) as folder:
        temporary = contained.temporary_name(target.name)
        try:
            with open(folder.create(temporary), "wb") as file:
                file.write(preprocess.encode(pixels, ".bmp"))
            folder.replace(temporary, target.name)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(temporary)
            raise
    return digest, True, ""

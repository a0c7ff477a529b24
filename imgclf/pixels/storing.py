"""Decoded pictures at the network's size as lossless files named after their content; all that a worker process loads."""

import hashlib
import os
from pathlib import Path

from imgclf.base import permissions
from imgclf.base.config import Recipe
from imgclf.base.errors import ImageError
from imgclf.pixels import images


def place(store: Path, digest: str) -> Path:
    """Where the picture with this content lies."""
    return store / digest[:2] / f"{digest}.bmp"


def is_whole(path: Path, size: int) -> bool:
    """Whether a stored file is there with all its bytes."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def keep(shared: tuple[str, str, Recipe, int], item: tuple[str, str]) -> tuple[str, bool, str]:
    """(content hash, whether it was decoded now, why it cannot be used) of a picture.

    shared: the data folder, the store, the recipe, bytes of a stored file. item: path and content hash, "" if not known.
    """
    root, store, recipe, size = shared
    path, digest = item
    if digest and is_whole(place(Path(store), digest), size):
        return digest, False, ""
    try:
        data = images.read(Path(root, path))
        pixels = images.apply(recipe, images.decode(data))
    except ImageError as error:
        return "", False, str(error)
    digest = hashlib.sha256(data).hexdigest()
    target = place(Path(store), digest)
    # Not synced to disk one by one: a file cut short by a power failure is found by its size above.
    temporary = target.with_suffix(f".{os.getpid()}.{id(data)}.tmp")
    try:
        content = images.encode(pixels, ".bmp")
        try:
            temporary.write_bytes(content)
        except FileNotFoundError:
            permissions.make_folder(target.parent)
            temporary.write_bytes(content)
        permissions.follow(temporary)
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return digest, True, ""

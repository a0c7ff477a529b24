"""Store images, resized to the network's input, as lossless files named after their content. Worker processes import this."""

import contextlib
import hashlib
import os
from pathlib import Path

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.core.files import contained
from imgclf.images import decode, preprocess


def stored_path(store: Path, digest: str) -> Path:
    """Return the path of the stored image with this content hash."""
    return store / digest[:2] / f"{digest}.bmp"


def is_complete(path: Path, size: int) -> bool:
    """Return whether a stored file exists and has `size` bytes."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def store_image(shared: tuple[str, str, Preprocessing, int], item: tuple[str, str]) -> tuple[str, bool, str]:
    """Store an image unless it is stored already.

    Args:
        shared: (data folder, folder of the store, preprocessing, bytes of each stored file).
        item: (path below the data folder, content hash or "" if unknown).

    Returns:
        (content hash or "", whether it was decoded now, why the image cannot be used or "").
    """
    root, store, preprocessing, size = shared
    path, digest = item
    if digest and is_complete(stored_path(Path(store), digest), size):
        return digest, False, ""
    try:
        data = decode.read(Path(root, path))
        pixels = preprocess.apply(preprocessing, decode.decode(data))
    except ImageError as error:
        return "", False, str(error)
    digest = hashlib.sha256(data).hexdigest()
    target = stored_path(Path(store), digest)
    # Not synced to disk, which is slow for each file: after a power failure, the size check above finds truncated files.
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

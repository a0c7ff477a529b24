"""Measure an image file in one pass: its format, whether it decodes, its quality, and a thumbnail for comparisons."""

import hashlib
import os
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.images import decode, header, quality, similarity
from imgclf.images.formats import containers, filetypes

# One record per file. If `problem` (the reason of an ImageError) is not empty, the file has no pixels, and the fields after
# `height` are 0.
DTYPE = np.dtype(
    [
        ("problem", "S16"),
        ("format", "S10"),
        ("bytes", "u8"),
        ("width", "u4"),  # in pixels, after EXIF orientation
        ("height", "u4"),
        ("trailing", "u8"),  # number of bytes after the end of the image
        ("endless", "?"),  # the end marker is missing
        ("animated", "?"),
        ("pixels", "u8", (2,)),  # XXH3-128 of the decoded pixels and the size
        ("hash", "u8"),  # perceptual hash, by `similarity.perceptual`
        ("flat", "?"),  # too few details for a comparison with other images
        ("brightness", "f4"),
        *((score, "f4") for score in quality.SCORES),
    ]
)

Measurements = NDArray[np.void]  # dtype DTYPE


def are_sound(records: Measurements) -> bool:
    """Return whether `measure` can have made these records. Records from a damaged file could break later computations.

    Images with pixels must have a known format, a size within the limits, and finite scores.
    """
    usable = records[records["problem"] == b""]
    sides = np.stack([usable["width"], usable["height"]]).astype("f8")
    switches = np.stack([np.ascontiguousarray(records[name]).view("u1") for name in ("endless", "animated", "flat")])
    letters = np.ascontiguousarray(records["format"]).view("u1")
    return bool(
        np.isin(usable["format"], [name.encode() for name in filetypes.FORMATS]).all()
        and (sides >= 1).all()
        and (sides.prod(axis=0) <= header.MAX_PIXELS).all()
        and (usable["bytes"] >= 1).all()
        and (usable["bytes"] <= decode.MAX_BYTES).all()
        and (usable["trailing"] < usable["bytes"]).all()
        and all(np.isfinite(records[name]).all() for name in ("brightness", *quality.SCORES))
        and (switches <= 1).all()
        and (letters < 128).all()
    )


def unusable(problem: str, size: int = 0, format: str = "", width: int = 0, height: int = 0) -> bytes:
    """Return the record of a file without pixels, as bytes."""
    record = np.zeros(1, DTYPE)
    record["problem"], record["bytes"], record["format"] = problem, size, format
    record["width"], record["height"] = width, height
    return record.tobytes()


def measure(data: bytes) -> tuple[bytes, str, bytes]:
    """Measure the bytes of an image file. The image is decoded once.

    Returns:
        (record, problem, thumbnails). record: bytes of dtype DTYPE. problem: a message, or "" for an image with pixels.
        thumbnails: bytes that `similarity` compares: a grey thumbnail, a colour thumbnail, and 64 ranks.
    """
    head = None
    try:
        head = header.header(data)
        image = decode.decode(data, head)
    except ImageError as error:
        if head is None:
            return unusable(error.reason, len(data), filetypes.sniff(data[:32]) or ""), str(error), b""
        return unusable(error.reason, len(data), head.format, head.width, head.height), str(error), b""
    end = containers.end(data, head.format)
    seen = quality.thumbnails(image)
    thumbnail, hash_, ranks = similarity.perceptual(seen.grey)
    height, width = image.shape[:2]
    digest = xxhash.xxh3_128(image.data)
    digest.update(b"%d %d" % (width, height))
    pixels = digest.intdigest()
    record = np.array(
        (
            b"",
            head.format.encode(),
            len(data),
            width,
            height,
            len(data) - end if end else 0,
            end is None and containers.has_end(head.format),
            containers.is_animated(data, head.format),
            (pixels >> 64, pixels & (1 << 64) - 1),
            hash_,
            similarity.is_flat(thumbnail),
            quality.brightness(seen.levels),
            *(score(seen) for score in quality.SCORES.values()),
        ),
        DTYPE,
    )
    return record.tobytes(), "", thumbnail.tobytes() + similarity.colours(seen.colour).tobytes() + ranks


def measure_file(shared: tuple[str, frozenset[bytes]], path: str) -> tuple[bytes, bytes, str, bytes]:
    """Measure a file. This function is here, and not in the index, so that a worker process imports few modules.

    Args:
        shared: (the folder, the SHA-256 hashes of files that are already measured).
        path: Path of the file in the folder.

    Returns:
        (SHA-256, record, problem, thumbnails), see `measure`. The record is empty if the content is already measured, and the
        hash is empty if the file could not be read, so that the next scan reads it again.
    """
    root, known = shared
    try:
        data = decode.read(Path(root, path))
    except ImageError as error:
        return b"", unusable(error.reason, _size(Path(root, path))), str(error), b""
    digest = hashlib.sha256(data).digest()
    if digest in known:
        return digest, b"", "", b""
    try:
        record, problem, thumbnail = measure(data)
    except MemoryError:
        record, problem, thumbnail = unusable("unreadable", len(data)), "not enough memory to decode it", b""
    if record[:10] == b"unreadable":  # the image may be intact: measure it again in the next scan
        digest = b""
    return digest, record, problem, thumbnail


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):
        return 0

"""Measure an image file in one pass: its format, whether it decodes, its quality, and a thumbnail for comparisons."""

import hashlib
import os
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from imgclf.core.errors import ImageError
from imgclf.images import decode, header, preprocess, quality, similarity
from imgclf.images.formats import containers, filetypes

SCORES = ("dark", "bright", "low-contrast", "blank", "blurry", "grayscale")

# One record a file; all zero behind `bytes` when `problem` (a reason of ImageError) says why there are no pixels.
DTYPE = np.dtype(
    [
        ("problem", "S16"),
        ("format", "S10"),
        ("bytes", "u8"),
        ("width", "u4"),  # pixels as shown: after orientation
        ("height", "u4"),
        ("trailing", "u8"),  # bytes behind the image's end
        ("endless", "?"),  # the mark at the image's end is missing
        ("animated", "?"),
        ("pixels", "u8", (2,)),  # XXH3-128 of size and decoded pixels
        ("hash", "u8"),  # of `duplicates.perceptual`
        ("flat", "?"),  # too little to see for comparing it with others
        ("brightness", "f4"),
        *((score, "f4") for score in SCORES),
    ]
)

Measurements = NDArray[np.void]  # dtype DTYPE


def are_sound(records: Measurements) -> bool:
    """Whether records can have come from `look`; others would break what computes with them.

    Of images with pixels: a known format, a size that is decoded, and finite scores.
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
        and all(np.isfinite(records[name]).all() for name in ("brightness", *SCORES))
        and (switches <= 1).all()
        and (letters < 128).all()
    )


def unusable(problem: str, size: int = 0, format: str = "", width: int = 0, height: int = 0) -> bytes:
    """The record of a file without pixels."""
    record = np.zeros(1, DTYPE)
    record["problem"], record["bytes"], record["format"] = problem, size, format
    record["width"], record["height"] = width, height
    return record.tobytes()


def measure(data: bytes) -> tuple[bytes, str, bytes]:
    """(a record of dtype DTYPE, the problem in words, what `duplicates.pairs` compares) of an image file's bytes.

    The last is the bytes of a grey thumbnail, of a colour thumbnail, and of 64 ranks. The image is decoded to its end once;
    all measures come from thumbnails of fixed size.
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
    grey = preprocess.thumbnail(image, quality.SIDE)
    levels = quality.levels(grey)
    ends = quality.ends(levels)
    thumbnail, hash_, ranks = similarity.perceptual(grey)
    grid = preprocess.grid(image, 64)
    brightest, darkest = quality.extremes(grid)
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
            quality.brightness(levels),
            quality.dark(brightest),
            quality.bright(darkest),
            quality.low_contrast(ends),
            quality.blank(levels),
            quality.blurry(grey),
            quality.grayscale(brightest, darkest),
        ),
        DTYPE,
    )
    return record.tobytes(), "", thumbnail.tobytes() + similarity.colours(grid).tobytes() + ranks


def measure_file(shared: tuple[str, frozenset[bytes]], path: str) -> tuple[bytes, bytes, str, bytes]:
    """(SHA-256, record, problem, what is compared) of a file, by its path under a folder; no record when its content is known.

    shared: the folder, and the contents that are known. Here and not in the index, so that a worker process loads little.
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
    if record[:10] == b"unreadable":  # by no fault of the image: inspect it again next time
        digest = b""
    return digest, record, problem, thumbnail


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):
        return 0

"""THE preprocessing: a decoded image as the model's input. Nothing else in imgclf resizes an image."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.images.decode import Image, decode, read


def resize(image: Image, width: int, height: int) -> Image:
    """Resize to exactly width x height: area averaging where it shrinks (no aliasing), linear where it grows."""
    now_height, now_width = image.shape[:2]
    if (now_width, now_height) == (width, height):
        return image
    if now_width > width or now_height > height:
        image = cv2.resize(image, (min(width, now_width), min(height, now_height)), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return image


def fit(image: Image, side: int) -> Image:
    """The whole image in its own shape, `side` pixels along its longer axis."""
    scale = side / max(image.shape[:2])
    return resize(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))


def thumbnail(image: Image, side: int) -> NDArray[np.uint8]:
    """An image in grey, (h, w) uint8, squashed to at most `side` pixels along each axis; never enlarged.

    Halved, which is fast, as long as that leaves about `side` pixels; then averaged, or interpolated where less than half goes.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    while min(height, width) >= 1.5 * side:
        height, width = height // 2, width // 2
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    wide = max(height, width) > 2 * side
    size = (min(width, side), min(height, side))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if wide else cv2.INTER_LINEAR)  # type: ignore[return-value]


def grid(image: Image, side: int) -> Image:
    """Some of an image's pixels, untouched: at most `side` along each axis, evenly spaced."""
    height, width = image.shape[:2]
    return cv2.resize(image, (min(width, side), min(height, side)), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]


Region = tuple[slice, slice]  # rows, columns


def framed(preprocessing: Preprocessing, width: int, height: int) -> tuple[Region, Region]:
    """(the part of an image that is used, the part of the model's input that it fills)."""
    taken, filled = (height, width), (preprocessing.height, preprocessing.width)
    across, down = preprocessing.width / width, preprocessing.height / height
    if preprocessing.aspect == "crop":
        scale = max(across, down)
        taken = min(height, max(1, round(preprocessing.height / scale))), min(width, max(1, round(preprocessing.width / scale)))
    elif preprocessing.aspect == "pad":
        scale = min(across, down)
        filled = (
            min(preprocessing.height, max(1, round(height * scale))),
            min(preprocessing.width, max(1, round(width * scale))),
        )
    return _middle(taken, (height, width)), _middle(filled, (preprocessing.height, preprocessing.width))


def _middle(size: tuple[int, int], whole: tuple[int, int]) -> Region:
    top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    return slice(top, top + size[0]), slice(left, left + size[1])


def apply(preprocessing: Preprocessing, image: Image) -> Image:
    """A decoded image as the model's input: (preprocessing.height, preprocessing.width, 3) uint8 RGB."""
    height, width = image.shape[:2]
    region, (rows, columns) = framed(preprocessing, width, height)
    shown = resize(np.ascontiguousarray(image[region]), columns.stop - columns.start, rows.stop - rows.start)
    if preprocessing.aspect != "pad":
        return shown
    canvas = np.full((preprocessing.height, preprocessing.width, 3), 128, np.uint8)
    canvas[rows, columns] = shown
    return canvas


def load(preprocessing: Preprocessing, path: Path) -> Image:
    """A file as the model's input; raises ImageError."""
    return apply(preprocessing, decode(read(path)))


def encode(image: Image, extension: str) -> bytes:
    """RGB pixels as a file's bytes: `.bmp` or `.png`, both lossless, or `.jpg` at quality 80 for a page to look at."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 80] if extension == ".jpg" else []
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ImageError("unsupported", f"OpenCV cannot write {extension}")
    return data.tobytes()

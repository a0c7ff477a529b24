"""Turn a decoded image into the model's input. This is the only preprocessing: nothing else in imgclf resizes an image."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImageError
from imgclf.images.decode import Image, decode, read


def resize(image: Image, width: int, height: int) -> Image:
    """Resize to exactly width x height: area averaging where it shrinks (no aliasing), linear interpolation where it grows."""
    old_height, old_width = image.shape[:2]
    if (old_width, old_height) == (width, height):
        return image
    if old_width > width or old_height > height:
        image = cv2.resize(image, (min(width, old_width), min(height, old_height)), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return image


def fit(image: Image, side: int) -> Image:
    """Resize the whole image so that its longer side has `side` pixels; the aspect ratio stays."""
    scale = side / max(image.shape[:2])
    return resize(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))


def thumbnail(image: Image, side: int) -> NDArray[np.uint8]:
    """Return an image in grey, (h, w) uint8, resized to at most `side` pixels along each axis and never enlarged.

    The aspect ratio may change. The image is halved, which is fast, while about `side` pixels remain. The last step averages,
    or interpolates where it removes less than half of the pixels along an axis.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    while min(height, width) >= 1.5 * side:
        height, width = height // 2, width // 2
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    shrinks_twofold = max(height, width) > 2 * side
    size = (min(width, side), min(height, side))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks_twofold else cv2.INTER_LINEAR)  # type: ignore[return-value]


def grid(image: Image, side: int) -> Image:
    """Return evenly spaced pixels of an image with their values unchanged: at most `side` along each axis."""
    height, width = image.shape[:2]
    return cv2.resize(image, (min(width, side), min(height, side)), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]


Region = tuple[slice, slice]  # rows, columns


def framed(preprocessing: Preprocessing, width: int, height: int) -> tuple[Region, Region]:
    """Return (the region of a width x height image that is used, the region of the model's input that it fills)."""
    used, filled = (height, width), (preprocessing.height, preprocessing.width)
    scale_x, scale_y = preprocessing.width / width, preprocessing.height / height
    if preprocessing.aspect == "crop":
        scale = max(scale_x, scale_y)
        used = min(height, max(1, round(preprocessing.height / scale))), min(width, max(1, round(preprocessing.width / scale)))
    elif preprocessing.aspect == "pad":
        scale = min(scale_x, scale_y)
        filled = (
            min(preprocessing.height, max(1, round(height * scale))),
            min(preprocessing.width, max(1, round(width * scale))),
        )
    return _centred(used, (height, width)), _centred(filled, (preprocessing.height, preprocessing.width))


def _centred(size: tuple[int, int], whole: tuple[int, int]) -> Region:
    """Return the region of this (height, width) in the middle of a whole of (height, width)."""
    top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    return slice(top, top + size[0]), slice(left, left + size[1])


def apply(preprocessing: Preprocessing, image: Image) -> Image:
    """Return a decoded image as the model's input: (preprocessing.height, preprocessing.width, 3) uint8 RGB."""
    height, width = image.shape[:2]
    region, (rows, columns) = framed(preprocessing, width, height)
    resized = resize(np.ascontiguousarray(image[region]), columns.stop - columns.start, rows.stop - rows.start)
    if preprocessing.aspect != "pad":
        return resized
    canvas = np.full((preprocessing.height, preprocessing.width, 3), 128, np.uint8)
    canvas[rows, columns] = resized
    return canvas


def load(preprocessing: Preprocessing, path: Path) -> Image:
    """Read a file and return it as the model's input. Raises ImageError."""
    return apply(preprocessing, decode(read(path)))


def encode(image: Image, extension: str) -> bytes:
    """Encode RGB pixels as the bytes of a file: lossless `.bmp` or `.png`, or `.jpg` at quality 80 for HTML pages."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 80] if extension == ".jpg" else []
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ImageError("unsupported", f"OpenCV cannot write {extension}")
    return data.tobytes()

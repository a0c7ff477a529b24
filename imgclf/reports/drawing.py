"""Draw text on images, and write PNG files with a mark that imgclf wrote them."""

import os
import struct
import zlib
from pathlib import Path

import cv2

from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic
from imgclf.images import decode, preprocess

PAPER, INK, SOFT = (250, 250, 248), (30, 30, 30), (120, 120, 120)
_MARK = b"Software\0imgclf"


def write(canvas: decode.Image, text: str, x: int, y: int, colour: tuple[int, int, int], size: int) -> None:
    """Draw text in any script; OpenCV 5 has a built-in TrueType font."""
    cv2.putText(canvas, text, (x, y), colour, cv2.FontFace("sans"), size)


def shorten(text: str, length: int) -> str:
    """Return at most `length` characters; the last one is an ellipsis if the text is cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def save(image: decode.Image, path: Path) -> None:
    """Write a PNG atomically, with the mark that `check_png` recognises."""
    content = preprocess.encode(image, ".png")
    chunk = b"tEXt" + _MARK
    mark = struct.pack(">I", len(_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    atomic.write_atomic(path, content[:33] + mark + content[33:])


def is_ours(path: Path) -> bool:
    """Return whether a file is a PNG that imgclf wrote, so that it may be overwritten."""
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(256)
    except OSError:
        return False


def check_png(path: Path, option: str) -> None:
    """Raise ImgclfError if `path` is not a PNG path, or is a file that imgclf did not write."""
    if path.is_dir():
        raise ImgclfError(f"{path}: is a folder; give {option} a file name that ends in .png")
    if path.suffix.lower() != ".png":
        raise ImgclfError(f"{path}: the image is written as PNG; give {option} a file name that ends in .png")
    if os.path.lexists(path) and not path.is_file():  # opening a pipe would block
        raise ImgclfError(f"{path}: exists and is not a regular file; choose another name")
    if path.is_file() and not is_ours(path):
        raise ImgclfError(f"{path}: exists and was not written by imgclf, so it is not overwritten; choose another name")

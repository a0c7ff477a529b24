"""Text on images, and PNG files that say who wrote them."""

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
    """Text in any script: OpenCV 5 draws with a built-in TrueType font."""
    cv2.putText(canvas, text, (x, y), colour, cv2.FontFace("sans"), size)


def shorten(text: str, length: int) -> str:
    """At most so many characters, the last a dot-dot-dot where some are missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def save(image: decode.Image, path: Path) -> None:
    """Write a PNG, atomically, with the mark by which `check_png` knows it."""
    content = preprocess.encode(image, ".png")
    chunk = b"tEXt" + _MARK
    mark = struct.pack(">I", len(_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    atomic.write_atomic(path, content[:33] + mark + content[33:])


def is_ours(path: Path) -> bool:
    """Whether a file is a PNG that imgclf wrote, and may be written again."""
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(256)
    except OSError:
        return False


def check_png(path: Path, option: str) -> None:
    """Refuse what is no PNG file, and files of others."""
    if path.is_dir():
        raise ImgclfError(f"{path}: a folder; give {option} a file name that ends in .png")
    if path.suffix.lower() != ".png":
        raise ImgclfError(f"{path}: an image is written as PNG; give {option} a file name that ends in .png")
    if os.path.lexists(path) and not path.is_file():  # a pipe would keep us waiting for ever
        raise ImgclfError(f"{path}: exists and is not a regular file; choose another name")
    if path.is_file() and not is_ours(path):
        raise ImgclfError(f"{path}: exists and was not written by imgclf, so it is not overwritten; choose another name")

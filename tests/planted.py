"""Make a data folder with known issues: the files that each check must find, and no others."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiffs
from conftest import bomb, encoded, photo, png_chunk, write
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

CLASSES = ("bird", "cat", "dog")


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Make a sharp colour image with shapes and texture, different for each seed."""
    chance = random.Random(seed)
    image = photo(seed, width, height)
    draw = ImageDraw.Draw(image)
    for _number in range(14):
        x, y = chance.randrange(width), chance.randrange(height)
        size = chance.randrange(width // 12, width // 4)
        colour = tuple(chance.randrange(256) for _channel in range(3))
        shape = chance.choice((draw.ellipse, draw.rectangle))
        shape((x - size, y - size // 2, x + size, y + size // 2), fill=colour, outline=(255, 255, 255))
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def recompressed(image: Image.Image) -> bytes:
    return encoded(image, quality=40)


def resized(image: Image.Image) -> bytes:
    return encoded(image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS), quality=85)


def cropped(image: Image.Image) -> bytes:
    """Crop 3% of each side."""
    across, down = round(image.width * 0.03), round(image.height * 0.03)
    return encoded(image.crop((across, down, image.width - across, image.height - down)), quality=90)


def brightened(image: Image.Image) -> bytes:
    return encoded(ImageEnhance.Brightness(image).enhance(1.2), quality=90)


def all_at_once(image: Image.Image) -> bytes:
    """Crop, shrink, brighten and recompress."""
    across, down = round(image.width * 0.03), round(image.height * 0.03)
    inner = image.crop((across, down, image.width - across, image.height - down))
    small = inner.resize((inner.width * 7 // 10, inner.height * 7 // 10), Image.Resampling.LANCZOS)
    return encoded(ImageEnhance.Brightness(small).enhance(1.2), quality=50)


def mirrored(image: Image.Image) -> bytes:
    return encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=80)


COPIES: tuple[Callable[[Image.Image], bytes], ...] = (recompressed, resized, cropped, brightened, all_at_once)


def plant(root: Path) -> dict[str, set[str]]:
    """Make the folder; return the checks that must find each file, by path. All other files are good."""
    expected: dict[str, set[str]] = {}
    seeds = iter(range(10_000))

    def new(width: int = 240, height: int = 180) -> Image.Image:
        return scene(next(seeds), width, height)

    def put(name: str, content: bytes, *checks: str) -> None:
        write(root / name, content)
        if checks:
            expected.setdefault(name, set()).update(checks)

    for label in CLASSES:
        for number in range(35):
            put(f"{label}/good {number:02d}.jpg", encoded(new(), quality=90))

    # unsupported, and broken
    bands = tiffs.Layout("u8", extra=(0, 0))
    put("bird/five bands.tif", tiffs.written(bands, tiffs.samples(bands, 1)), "unsupported")
    jpeg, png = encoded(new()), encoded(new(), "PNG")
    flipped = bytearray(png)
    flipped[len(flipped) // 2] ^= 1
    for name, content in {
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><html></html>",
        "notes.txt": b"remember the milk",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "almost.jpg": jpeg[:-40],
        "half.png": png[: len(png) // 2],
        "flipped.png": bytes(flipped),
        "half.gif": encoded(new(), "GIF")[:4000],
        "half.webp": encoded(new(), "WEBP")[:2000],
        "half.bmp": encoded(new(), "BMP")[:9000],
        "bomb.png": bomb(),
        "archive.jpg": b"PK\x03\x04" + bytes(60),
    }.items():
        put(f"bird/broken/{name}", content, "broken")
    put("bird/photo.heic", b"\0\0\0\x18ftypheic" + bytes(40), "unsupported")
    (root / "bird/broken/dangling.jpg").symlink_to("nowhere.jpg")
    (root / "bird/broken/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "bird/broken/pipe.jpg")
    for name in ("dangling", "loop", "pipe"):
        expected[f"bird/broken/{name}.jpg"] = {"broken"}

    # misnamed
    put("cat/really-a-jpeg.png", encoded(new()), "extension")
    put("cat/really-a-png.jpg", encoded(new(), "PNG"), "extension")
    put("cat/really-a-webp.jpeg", encoded(new(), "WEBP"), "extension")
    put("cat/no-extension", encoded(new()), "extension")
    put("cat/IMG.2021", encoded(new()), "extension")

    # missing ends and trailing bytes
    put("cat/endless.jpg", encoded(new())[:-2], "missing-end")
    put("cat/endless-progressive.jpg", encoded(new(), progressive=True)[:-2], "missing-end")
    put("cat/endless.png", encoded(new(), "PNG")[:-12], "missing-end")
    put("cat/endless.gif", encoded(new(), "GIF")[:-1], "missing-end")
    for form, ending in (("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp")):
        put(f"cat/trailing.{ending}", encoded(new(), form) + b"garbage" * 20, "trailing")
    put("cat/two-in-one.jpg", encoded(new()) + encoded(new()), "trailing")

    # several images in one file
    for form, ending in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif")):
        put(f"dog/animated.{ending}", encoded(new(), form, save_all=True, append_images=[new(), new()]), "animated")

    # the same pixels
    for number in range(6):
        content = encoded(new())
        put(f"dog/same {number}.jpg", content)
        put(f"dog/same {number} copy.jpg", content, "duplicate")
    for number, forms in enumerate((("PNG", "BMP"), ("BMP", "TIFF"), ("TIFF", "PNG"))):
        image = new()
        files = [(encoded(image, form), {"PNG": "png", "BMP": "bmp", "TIFF": "tif"}[form]) for form in forms]
        largest = max(files)[0] if len(files[0][0]) == len(files[1][0]) else max(files, key=lambda file: len(file[0]))[0]
        for content, ending in files:
            put(f"dog/pixels {number}.{ending}", content, *([] if content is largest else ["duplicate"]))
    jpeg = encoded(new(), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    put("dog/exif.jpg", jpeg)
    put("dog/no-exif.jpg", jpeg[:2] + jpeg[jpeg.index(b"\xff\xdb") :], "duplicate")

    # nearly the same, in one class and in two
    for number in range(4):
        for change in COPIES:
            image = new()
            put(f"bird/near {change.__name__} {number}.png", encoded(image, "PNG"))
            put(f"bird/near {change.__name__} {number} copy.jpg", change(image), "near-duplicate")
        image = new()
        put(f"cat/mirror {number}.png", encoded(image, "PNG"))
        put(f"cat/mirror {number} copy.jpg", mirrored(image), "mirrored")
        content = encoded(new())
        put(f"cat/conflict {number}.jpg", content, "conflict")
        put(f"dog/conflict {number}.jpg", content, "conflict")
        image = new()
        put(f"bird/label {number}.png", encoded(image, "PNG"), "conflict")
        put(f"dog/label {number}.jpg", COPIES[number](image), "conflict")

    # poor quality
    for number in range(4):
        flat = np.full((180, 240, 3), (0, 255, 128, 60)[number], np.uint8)
        put(f"dog/blank {number}.png", encoded(Image.fromarray(flat), "PNG"), "blank")
        for name, check, low, scale in (
            ("dark", "dark", 0, 0.2),
            ("bright", "bright", 205, 0.19),
            ("pale", "low-contrast", 100, 0.15),
        ):
            dull = (low + scale * np.asarray(new(), np.float64)).astype(np.uint8)
            put(f"dog/{name} {number}.png", encoded(Image.fromarray(dull), "PNG"), check)
        put(f"dog/blurry {number}.png", encoded(new().filter(ImageFilter.GaussianBlur(5)), "PNG"), "blurry")
        put(f"dog/tiny {number}.png", encoded(new(28 - number, 24 - number), "PNG"), "tiny")
        put(f"dog/long {number}.png", encoded(new(*((400, 100), (90, 360))[number % 2]), "PNG"), "odd-aspect")
        put(f"dog/grey {number}.png", encoded(new().convert("L"), "PNG"), "grayscale")
    return expected


def apng_of_one_frame() -> bytes:
    """Make a PNG with an animation chunk for one frame, which is not animated."""
    png = encoded(scene(1), "PNG")
    return png[:33] + png_chunk(b"acTL", (1).to_bytes(4, "big") + bytes(4)) + png[33:]

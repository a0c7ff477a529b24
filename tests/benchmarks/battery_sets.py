"""The image sets of the battery, as folders with train, val and test."""

import collections
import csv
import dataclasses
import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
from fashion import NAMES, read

from imgclf.api import ImageError, SplitConfig, split
from imgclf.images.decode import decode
from imgclf.images.decode import read as read_file
from imgclf.images.header import header

LARGE = 1500  # images: a set of this size or more has 15% test images, a smaller one 25%
FASHION_IMAGES = 6000
_PLAIN_FORMATS = ("JPEG", "PNG")  # every rival reads them; other images are converted to PNG, pixel for pixel

Source = tuple[Path, str, str]  # image file, label, group ("" for none)


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """An image set.

    role: `tuning` sets were used to choose defaults; `confirmation` sets were not.
    images: Function from the folder of all sets and the folder of Fashion-MNIST to the images.
    """

    name: str
    role: Literal["tuning", "confirmation"]
    images: Callable[[Path, Path], list[Source]]


def _classes(name: str) -> Callable[[Path, Path], list[Source]]:
    """A folder with one folder per class, possibly below `train` and `test`."""

    def images(data: Path, _fashion: Path) -> list[Source]:
        above = [data / name / subset for subset in ("train", "test") if (data / name / subset).is_dir()] or [data / name]
        folders = [folder for top in above for folder in sorted(top.iterdir()) if folder.is_dir()]
        return [(path, folder.name, "") for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]

    return images


def _clothes_table(data: Path, _fashion: Path) -> list[Source]:
    """Photos of clothes by `images.csv`. The sender is the group. Labels that name no kind of clothes are skipped."""
    found = []
    files = {path.stem: path for path in (data / "clothes-table" / "images").iterdir()}
    with (data / "clothes-table" / "images.csv").open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            if row["label"] not in ("Not sure", "Other", "Skip") and row["image"] in files:
                found.append((files[row["image"]], row["label"], row["sender_id"]))
    return found


def _fashion_images(_data: Path, fashion: Path) -> list[Source]:
    """The first images of the training set of Fashion-MNIST, written to PNG files beside the originals once."""
    folder = fashion / "battery-png"
    if not folder.exists():
        images, labels = (read(next(fashion.glob(f"train-{kind}*"))) for kind in ("images", "labels"))
        unfinished = fashion / "battery-png.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for number in range(FASHION_IMAGES):
            path = unfinished / NAMES[labels[number]] / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", images[number])[1].tobytes())
        unfinished.rename(folder)
    return _classes(folder.name)(fashion, fashion)


def _uneven(images: Callable[[Path, Path], list[Source]], largest: int) -> Callable[[Path, Path], list[Source]]:
    """A version with 30 times as many images in the first class as in the last; sizes between fall geometrically."""

    def chosen(data: Path, fashion: Path) -> list[Source]:
        by_class: dict[str, list[Source]] = {}
        for source in images(data, fashion):
            by_class.setdefault(source[1], []).append(source)
        ratio = 30 ** (-1 / (len(by_class) - 1))
        draw = random.Random(0)
        return [
            source
            for number, own in enumerate(by_class[label] for label in sorted(by_class))
            for source in sorted(draw.sample(own, min(len(own), round(largest * ratio**number))))
        ]

    return chosen


# Frozen before the first result. The confirmation sets are opened once, at the end.
SETS = {
    one.name: one
    for one in (
        ImageSet("cats-dogs", "tuning", _classes("cats-dogs")),
        ImageSet("flowers", "tuning", _classes("flowers")),
        ImageSet("brain-scans", "tuning", _classes("brain-scans")),
        ImageSet("chess", "tuning", _classes("chess")),
        ImageSet("sign-digits", "tuning", _classes("sign-digits")),
        ImageSet("masks", "tuning", _classes("masks")),
        ImageSet("smiles-uneven", "tuning", _classes("smiles-uneven")),
        ImageSet("fashion", "tuning", _fashion_images),
        ImageSet("cats-dogs-uneven", "tuning", _uneven(_classes("cats-dogs"), 900)),
        ImageSet("flowers-uneven", "tuning", _uneven(_classes("flowers"), 480)),
        ImageSet("fashion-uneven", "tuning", _uneven(_fashion_images, 300)),
        ImageSet("happy-sad", "confirmation", _classes("happy-sad")),
        ImageSet("ants-bees", "confirmation", _classes("ants-bees")),
        ImageSet("clothes", "confirmation", _classes("clothes")),
        ImageSet("clothes-table", "confirmation", _clothes_table),
    )
}


def prepare(one: ImageSet, seed: int, data: Path, fashion: Path, work: Path) -> Path:
    """Return a folder with the class folders of train, val and test, drawn by groups with this seed. It is made once."""
    target = work / "splits" / f"{one.name}-{seed}"
    if target.exists():
        return target
    folder, groups = _cleaned(one, data, fashion, work)
    large = sum(len(files) for _folder, _folders, files in os.walk(folder)) >= LARGE
    fractions = (0.70, 0.15, 0.15) if large else (0.60, 0.15, 0.25)
    rows = split(folder, SplitConfig(*fractions, seed=seed, groups=groups), force=True).manifest.rows
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for row in rows:
        path = unfinished / row.split / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / row.path, path)
    unfinished.rename(target)
    return target


def _cleaned(one: ImageSet, data: Path, fashion: Path, work: Path) -> tuple[Path, str | None]:
    """Return a folder per class with the usable images of a set, in formats that every rival reads, and its table of groups."""
    folder, table = work / "sets" / one.name, work / "sets" / f"{one.name}.csv"
    if folder.exists():
        return folder, str(table) if table.exists() else None
    unfinished = folder.with_name(f"{one.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    groups: dict[str, str] = {}
    for content, suffix, label, group in _usable(one.images(data, fashion)):
        path = unfinished / label / f"{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        groups[f"{label}/{path.name}"] = group
    if any(groups.values()):
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "group"), *groups.items()])
    unfinished.rename(folder)
    return folder, str(table) if table.exists() else None


def _usable(sources: Sequence[Source]) -> Iterator[tuple[bytes, str, str, str]]:
    """Yield (content, file extension, label, group) of the images that can be decoded."""
    for path, label, group in sources:
        try:
            content = read_file(path)
            head = header(content)
            pixels = decode(content, head)
        except ImageError:
            continue
        if head.format not in _PLAIN_FORMATS:
            content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        yield content, ".jpg" if head.format == "JPEG" else ".png", label, group


def class_names(folder: Path) -> list[str]:
    """Return the class names of a prepared folder, sorted."""
    return sorted(path.name for path in (folder / "train").iterdir())


def listed(folder: Path, subset: str) -> tuple[list[Path], list[int]]:
    """Return the files of a subset of a prepared folder, sorted, and their class numbers."""
    names = class_names(folder)
    files = sorted(path for path in (folder / subset).rglob("*") if path.is_file() and ".imgclf" not in path.parts)
    return files, [names.index(path.parent.name) for path in files]


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """Return the number of images by subset and class."""
    found = {}
    for subset in ("train", "val", "test"):
        labels = collections.Counter(path.parent.name for path in listed(folder, subset)[0])
        found[subset] = dict(sorted(labels.items()))
    return found

"""`imgclf predict`: one record for every requested input, in order, whatever happens to it."""

import dataclasses
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgclf.base.errors import ImageError, ImgclfError, UsageError
from imgclf.base.parallel import ordered_map
from imgclf.bundle import Bundle
from imgclf.pixels import images

KNOWN_EXTENSIONS = {extension for extensions in images.FORMATS.values() for extension in extensions}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the run says of one input. top: the likeliest classes with their probabilities; error: why there is no answer."""

    input: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None


UNKNOWN = "unknown"  # the label of what the run is not sure enough of


def threshold(bundle: Bundle, text: str) -> tuple[float, str]:
    """(the least probability of an answer, what is to be said of it) for `0.8` or `auto:0.99`.

    The second: the lowest from which answers were right so often on the validation pictures. Raises UsageError for another
    text, and ImgclfError where no probability was enough.
    """
    automatic, wish = text.startswith("auto:"), text.removeprefix("auto:")
    try:
        value = float(wish)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or auto: and an accuracy, as auto:0.99")
    if UNKNOWN in bundle.class_names:
        raise UsageError(f"--threshold: {bundle.path} has a class of the name {UNKNOWN}, which would be mixed up with it")
    if not automatic:
        return value, ""
    known = bundle.info.get("calibration", {})
    points = known.get("thresholds", [])
    found = next((point for point in points if point[1] >= value), None)
    if found is None:
        best = f"; {points[-1][1]:.4f} is the most, from {points[-1][0]:.4f} on" if points else ""
        raise ImgclfError(f"--threshold {text}: no probability was enough on the validation pictures of {bundle.path}{best}")
    return found[0], (
        f"threshold {found[0]:.4f}: of {known['pictures']} validation pictures, {found[2]:.1%} are at least so sure, "
        f"and {found[1]:.1%} of those are right"
    )


def predict(bundle: Bundle, inputs: Iterable[str], *, top: int = 1, threshold: float = 0.0) -> Iterator[Prediction]:
    """Predict paths, folders (every picture below) and globs, on all cores, each record as soon as it is its turn.

    threshold: the label of what is less probable is `unknown`; its probability is told all the same.
    """

    def one(item: tuple[str, str | None]) -> Prediction:
        name, problem = item
        if problem:
            return Prediction(name, None, None, (), problem)
        try:
            probabilities = bundle.probability(images.load(bundle.recipe, Path(name)))
        except ImageError as error:
            return Prediction(name, None, None, (), str(error))
        ranked = sorted(zip(bundle.class_names, probabilities, strict=True), key=lambda pair: -pair[1])
        pairs = tuple((label, float(probability)) for label, probability in ranked[:top])
        return Prediction(name, pairs[0][0] if pairs[0][1] >= threshold else UNKNOWN, pairs[0][1], pairs)

    return ordered_map(one, expand(inputs))


def expand(inputs: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """(path, None) for every file asked for, or (input, problem) where one stands for nothing.

    A folder stands for the files below it that are pictures by name or by their first bytes, sorted; hidden ones are passed
    over. A name with *, ? or [ that no file bears is a glob.
    """
    for name in inputs:
        if os.path.isdir(name):
            found = False
            for found_path, problem in _pictures(name):
                found = True
                yield found_path, problem
            if not found:
                yield name, "no images in this folder"
        elif glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if matches:
                yield from expand(
                    glob.escape(match) if glob.has_magic(match) and not os.path.lexists(match) else match for match in matches
                )
            else:
                yield name, "no file matches this pattern"
        else:
            yield name, None


def _pictures(folder: str) -> Iterator[tuple[str, str | None]]:
    problems: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        while problems:
            problem = problems.pop()
            yield str(problem.filename), f"cannot be listed: {problem.strerror}"
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:  # a link back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(here, name)
            if not name.startswith(".") and (Path(name).suffix.lower() in KNOWN_EXTENSIONS or _begins_like_one(path)):
                yield path, None
    for problem in problems:
        yield str(problem.filename), f"cannot be listed: {problem.strerror}"


def _begins_like_one(path: str) -> bool:
    """Whether a file of unknown name is to be predicted: a picture by its first bytes, or one that cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return images.sniff(file.read(32)) is not None
    except OSError:
        return True

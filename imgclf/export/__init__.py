"""`imgclf export`: a finished run as a file that others can use, compared with the run on real pictures before it is kept."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imgclf
from imgclf.core.config import Format, Part, Quantize, Share
from imgclf.core.errors import ImageError, ImgclfError, UsageError
from imgclf.core.fields import check as check_value
from imgclf.core.files import atomic, contained
from imgclf.core.files.state_folder import check_data_folder, check_outside, command
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Stages
from imgclf.data import file_index, scoring
from imgclf.data.manifest import Row
from imgclf.evaluation import baseline
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.intervals import wilson_interval
from imgclf.export import formats
from imgclf.images import decode, preprocess
from imgclf.images.formats import filetypes
from imgclf.models import bundle
from imgclf.models.bundle import Bundle

FOLDER = "export"  # of a run: what is exported without a name of the user's
TOLERANCE: dict[Quantize, float] = {"none": 1e-4, "float16": 0.02, "int8": 0.02}

_COMPARED = 1000  # pictures at most that the exported file is held against the run on
_FITTED = 200  # pictures at most that int8 is fitted to
_TIMED = 20


@dataclasses.dataclass(frozen=True)
class FromBytes:
    """How a SavedModel's own decoder does on the pictures' files: those that are JPEG or PNG and that it reads."""

    pictures: int
    difference: float
    agreement: float
    agreement_interval: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported file beside its run, on pictures of one part of the run's split; only TensorFlow has more than one thread.

    difference: the largest of any class's probability. agreement: share of pictures with the same label. before: of the run,
    after: of the exported file. Sizes are in bytes, times are medians in milliseconds per image. Intervals are 95% Wilson
    intervals. baseline: on the same images, compared with the accuracy of the file.
    """

    run: str
    path: str
    format: Format
    quantize: Quantize
    tolerance: float
    part: Part
    pictures: int
    difference: float
    agreement: float
    agreement_interval: tuple[float, float]
    accuracy_before: float
    interval_before: tuple[float, float]
    accuracy_after: float
    interval_after: tuple[float, float]
    baseline: Baseline
    size_before: int
    size_after: int
    ms_before: float
    ms_after: float
    fitted_to: int  # pictures that chose the ranges of int8
    from_bytes: FromBytes | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "export/1", **dataclasses.asdict(self)}


def check(form: Format, quantize: Quantize, tolerance: float | None, out: Path | None) -> None:
    """Raise UsageError for what cannot be asked for, ImgclfError for what is not installed or in the way."""
    check_value("format", form, Format)
    check_value("quantize", quantize, Quantize)
    check_value("tolerance", tolerance, Share | None)
    known = formats.QUANTIZED[form]
    if quantize not in known:
        having = ", ".join(name for name, kinds in formats.QUANTIZED.items() if quantize in kinds)
        raise UsageError(
            f"--format {form} --quantize {quantize}: there is none; {form} has {', '.join(known)}; {quantize} is for {having}"
        )
    ending = formats.ENDINGS[form]
    if out and ending and out.suffix != ending:
        raise UsageError(f"--out {out}: a {form} file ends with {ending}")
    if out and out.exists():
        raise ImgclfError(f"{out}: exists already, and an export never writes over it; give --out another name")
    above = next((folder for folder in out.absolute().parents if folder.exists()), None) if out else None
    if above and not above.is_dir():
        raise ImgclfError(f"{above}: a file, not a folder; give --out another place")
    formats.check_packages(form)


def default_path(run: Path, form: Format, quantize: Quantize) -> Path:
    """Where an export goes without a name: `export/model-int8.tflite` and the like in the run's folder.

    Raises LinkError when the folder `export` of the run, which may come from someone else, is a link.
    """
    with contained.Folder.named(run) as folder, contextlib.suppress(FileNotFoundError):
        folder.below(FOLDER).close()
    stem = "saved-model" if form == "saved-model" else "model"
    return run / FOLDER / f"{stem}{'' if quantize == 'none' else '-' + quantize}{formats.ENDINGS[form]}"


def export(
    run: Bundle,
    form: Format = "litert",
    quantize: Quantize = "none",
    *,
    data: Path | None = None,
    out: Path | None = None,
    tolerance: float | None = None,
    progress: Stages | None = None,
) -> Export:
    """Write a run in another format, run that file on the test part (validation where there is none), and keep it if it agrees.

    The probabilities of every format are the calibrated ones, one a class. tolerance: the largest probability difference, by
    default 0.0001, and 0.02 in float16; for int8 the share of pictures with another label, by default 0.02. data: where the
    run's pictures are now, if they were moved. out: a new file or folder; by default `default_path`, where an earlier export is
    replaced. Raises ImgclfError, and leaves nothing behind, when the file differs by more.
    """
    check(form, quantize, tolerance, out)
    limit = TOLERANCE[quantize] if tolerance is None else tolerance
    report: Stages = progress or (lambda stage, done, total: None)
    root, rows, notes = _pictures(run, data)
    part: Part = "test" if any(row.split == "test" for row in rows) else "val"
    compared = _some([row for row in rows if row.split == part], _COMPARED)
    if not compared:
        raise ImgclfError(f"{root}: no picture of the run's {part} part is there to hold the export against")
    fitted = _fitting(rows) if quantize == "int8" else []
    path = out or default_path(run.path, form, quantize)
    check_outside(path, "--out", root)
    report("loading TensorFlow", 0, 1)
    network = formats.calibrated(run.network(), run.temperature)
    with _place(path, form) as temporary:
        report("converting", 0, 1)
        examples = [image for image in ordered_map(lambda row: _load(run, root, row), fitted) if image is not None]
        if quantize == "int8" and not examples:
            raise ImgclfError(f"{root}: none of the images for int8 quantization can be read; run {command('clean', root)}")
        formats.write(network, temporary, form, quantize, _note(run, quantize), examples)
        answer = formats.open_(temporary, form)
        before, after, true, pixels = _both(run, answer, root, compared, report)
        difference = float(np.abs(after - before).max())
        agreement = float((after.argmax(1) == before.argmax(1)).mean())
        _hold(path, quantize, limit, difference, agreement, len(true), part)
        from_bytes, refused = _on_bytes(temporary, run, root, compared, report) if form == "saved-model" else (None, 0)
        if refused:
            notes.append(
                f"JPEG and PNG files whose bytes the SavedModel refuses, as where the mark at their end is missing: {refused}"
            )
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
        ms_before, ms_after = _milliseconds(run.probability, pixels), _milliseconds(answer, pixels)
    right_before, right_after = (int((found.argmax(1) == true).sum()) for found in (before, after))
    interval = wilson_interval(right_after, len(true))
    name = run.val_baseline.class_name
    trivial = baseline.baseline(name, int((true == run.class_names.index(name)).sum()), right_after, len(true))
    if warning := trivial.warning("accuracy", right_after / len(true), interval, baseline.remedy(run.info)):
        notes.append(warning)
    return Export(
        run=str(run.path),
        path=str(path),
        format=form,
        quantize=quantize,
        tolerance=limit,
        part=part,
        pictures=len(true),
        difference=difference,
        agreement=agreement,
        agreement_interval=wilson_interval(round(agreement * len(true)), len(true)),
        accuracy_before=right_before / len(true),
        interval_before=wilson_interval(right_before, len(true)),
        accuracy_after=right_after / len(true),
        interval_after=interval,
        baseline=trivial,
        size_before=(run.path / bundle.LITERT).stat().st_size,
        size_after=size,
        ms_before=ms_before,
        ms_after=ms_after,
        fitted_to=len(examples),
        from_bytes=from_bytes,
        notes=tuple(notes),
    )


def _pictures(run: Bundle, data: Path | None) -> tuple[Path, list[Row], list[str]]:
    """The data folder, the rows of the run's split whose pictures are there and unchanged, and a note on the others."""
    root = data or Path(run.info["data"]["path"])
    if data is None and not root.is_dir():
        raise ImgclfError(
            f"{root}: the run's data folder is no longer there, and an export is held against the run on its pictures; "
            "say where they are now: imgclf export FOLDER"
        )
    check_data_folder(root)
    manifest, _others, notes = scoring.as_named(root, scoring.manifest_of(run))
    wanted = [row for row in manifest.rows if (root / row.path).is_file()]
    hashes = file_index.content_hashes(root, [row.path for row in wanted])
    rows = [row for row in wanted if hashes.get(row.path) == row.sha256]
    lost = len(manifest.rows) - len(rows)
    if lost:
        notes.append(f"pictures of the run's split that are gone or have changed, and were left out: {lost}")
    return root, rows, notes


def _some(rows: list[Row], most: int) -> list[Row]:
    """Evenly spaced, and so of every class that is not rare, since rows are in order of their paths."""
    return rows[:: math.ceil(len(rows) / most)] if rows else []


def _fitting(rows: list[Row]) -> list[Row]:
    """Pictures that int8 is fitted to: validation ones, which the test does not see, or else training ones."""
    validation = [row for row in rows if row.split == "val"]
    return _some(validation or [row for row in rows if row.split == "train"], _FITTED)


def _note(run: Bundle, quantize: Quantize) -> dict[str, Any]:
    """What travels inside; probabilities need no temperature any more, it is in the weights."""
    return {
        "format": 1,
        "class_names": list(run.class_names),
        "recipe": dataclasses.asdict(run.recipe),
        "temperature": run.temperature,
        "calibrated": "calibration" in run.info,
        "quantize": quantize,
        "model": run.info["model"],
        "run": run.path.resolve().name,
        "finished": run.info["finished"],
        "imgclf": imgclf.__version__,
    }


@contextlib.contextmanager
def _place(path: Path, form: Format) -> Iterator[Path]:
    """A temporary path that gets its name when the block ends well; if not, not even a folder made for it stays."""
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic.atomic_folder(path) if form == "saved-model" else atomic.atomic_path(path) as temporary:
            yield temporary
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _load(run: Bundle, root: Path, row: Row) -> decode.Image | None:
    try:
        return preprocess.load(run.recipe, root / row.path)
    except ImageError:
        return None


def _both(
    run: Bundle, answer: formats.Answer, root: Path, rows: list[Row], report: Stages
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], list[decode.Image]]:
    """Probabilities (n, classes) by the run and by the file, the true classes, and some of the pictures."""

    def one(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64], decode.Image] | None:
        image = _load(run, root, row)
        return None if image is None else (run.probability(image), answer(image), image)

    before, after, true = [], [], []
    pixels: list[decode.Image] = []
    for done, (row, found) in enumerate(zip(rows, ordered_map(one, rows), strict=True), 1):
        if found is not None:
            before.append(found[0])
            after.append(found[1])
            true.append(run.class_names.index(row.label))
            if len(pixels) < _TIMED:
                pixels.append(found[2])
        report("comparing", done, len(rows))
    if not true:
        raise ImgclfError(
            f"{root}: none of the {len(rows)} images for the comparison can be read; run {command('clean', root)}"
        )
    return np.array(before), np.array(after), np.array(true), pixels


def _hold(path: Path, quantize: Quantize, limit: float, difference: float, agreement: float, count: int, part: Part) -> None:
    """Raise ImgclfError when an exported file is not what the run is."""
    on = f"on {count} {part} pictures"
    if quantize == "int8":
        changed = round((1 - agreement) * count)
        if not 1 - agreement <= limit + 1e-9:
            raise ImgclfError(
                f"{path}: not exported: another label than the run's {changed} times {on}, and {limit:g} of them are allowed; "
                "take --quantize float16, or allow more with --tolerance"
            )
    elif not difference <= limit:
        lossless = "take --quantize none, or " if quantize != "none" else ""
        raise ImgclfError(
            f"{path}: not exported: a probability differs from the run's by {difference:.2g} {on}, and {limit:g} is allowed; "
            f"{lossless}allow more with --tolerance"
        )


def _on_bytes(path: Path, run: Bundle, root: Path, rows: list[Row], report: Stages) -> tuple[FromBytes | None, int]:
    """A SavedModel that decodes by itself, against the run that does so with OpenCV; and how many files it refuses."""
    answer = formats.open_bytes(path)

    def one(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64] | None] | None:
        try:
            data = decode.read(root / row.path)
            if filetypes.sniff(data) not in ("JPEG", "PNG"):
                return None
            return run.probability(preprocess.apply(run.recipe, decode.decode(data))), answer(data)
        except ImageError:
            return None

    pairs, refused = [], 0
    for done, found in enumerate(ordered_map(one, rows), 1):
        if found and found[1] is not None:
            pairs.append(found)
        elif found:
            refused += 1
        report("comparing files", done, len(rows))
    if not pairs:
        return None, refused
    before, after = np.array(pairs).transpose(1, 0, 2)
    agreement = float((before.argmax(1) == after.argmax(1)).mean())
    interval = wilson_interval(round(agreement * len(pairs)), len(pairs))
    return FromBytes(len(pairs), float(np.abs(before - after).max()), agreement, interval), refused


def _milliseconds(answer: Callable[[decode.Image], Any], pixels: list[decode.Image]) -> float:
    answer(pixels[0])
    taken = []
    for image in pixels:
        began = time.perf_counter()
        answer(image)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)

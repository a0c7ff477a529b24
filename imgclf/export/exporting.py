"""`imgclf export`: a finished run as a file that others can use, compared with the run on real images before it is kept."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imgclf
from imgclf.core.config import ExportConfig, Format, Quantize, Subset
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic, contained
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import check_data_folder, check_outside, command
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Stages
from imgclf.data import file_index, scoring
from imgclf.data.manifest import Row
from imgclf.evaluation import baseline
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.intervals import wilson_interval
from imgclf.export import formats
from imgclf.export.comparing import COMPARED, FromBytes, compare, hold, load_image, milliseconds, on_bytes
from imgclf.images import decode
from imgclf.models.bundle import Bundle

FOLDER = "export"  # of a run: what is exported without a name of the user's

_FITTED = 200  # images at most that int8 is fitted to


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported file beside its run, on images of one part of the run's split; only TensorFlow has more than one thread.

    difference: the largest of any class's probability. agreement: share of images with the same label. before: of the run,
    after: of the exported file. Sizes are in bytes, times are medians in milliseconds per image. Intervals are 95% Wilson
    intervals. baseline: on the same images, compared with the accuracy of the file.
    """

    run: str
    path: str
    format: Format
    quantize: Quantize
    tolerance: float
    subset: Subset
    images: int
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
    fitted_to: int  # images that chose the ranges of int8
    from_bytes: FromBytes | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "export/1", **dataclasses.asdict(self)}


def check(config: ExportConfig, out: Path | None) -> None:
    """Raise UsageError for what cannot be asked for, ImgclfError for what is not installed or in the way."""
    form, quantize = config.format, config.quantize
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


def default_path(run: Path, config: ExportConfig) -> Path:
    """Where an export goes without a name: `export/model-int8.tflite` and the like in the run's folder.

    Raises LinkError when the folder `export` of the run, which may come from someone else, is a link.
    """
    with contained.Folder.named(run) as folder, contextlib.suppress(FileNotFoundError):
        folder.below(FOLDER).close()
    stem = "saved-model" if config.format == "saved-model" else "model"
    return run / FOLDER / f"{stem}{'' if config.quantize == 'none' else '-' + config.quantize}{formats.ENDINGS[config.format]}"


def export(
    run: Bundle,
    config: ExportConfig | None = None,
    *,
    data: StrPath | None = None,
    out: StrPath | None = None,
    progress: Stages | None = None,
) -> Export:
    """Write a run in another format, run that file on the test set (validation where there is none), and keep it if it agrees.

    The probabilities of every format are the calibrated ones, one a class. data: where the run's images are now, if they were
    moved. out: a new file or folder; by default `default_path`, where an earlier export is replaced. Raises ImgclfError, and
    leaves nothing behind, when the file differs by more than the config's tolerance.
    """
    config = config or ExportConfig()
    data = None if data is None else Path(data)
    out = None if out is None else Path(out)
    check(config, out)
    report: Stages = progress or (lambda stage, done, total: None)
    root, rows, notes = _images(run, data)
    subset, compared = _compared(root, rows)
    path = out or default_path(run.path, config)
    check_outside(path, "--out", root)
    report("loading TensorFlow", 0, 1)
    network = formats.calibrated(run.network(), run.temperature)
    with _place(path, config.format) as temporary:
        report("converting", 0, 1)
        examples = _examples(run, root, rows) if config.quantize == "int8" else []
        formats.write(network, temporary, config.format, config.quantize, _note(run, config.quantize), examples)
        predict = formats.open_(temporary, config.format)
        found = compare(run, predict, root, compared, report)
        hold(path, config, found, subset)
        from_bytes, more = on_bytes(temporary, run, root, compared, report) if config.format == "saved-model" else (None, [])
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
        ms_before, ms_after = milliseconds(run.probability, found.pixels), milliseconds(predict, found.pixels)
    right_before, right_after = found.right
    interval = wilson_interval(right_after, found.images)
    trivial = _baseline(run, found.true, right_after)
    warning = trivial.warning("accuracy", right_after / found.images, interval, run.info.next_step)
    return Export(
        run=str(run.path),
        path=str(path),
        format=config.format,
        quantize=config.quantize,
        tolerance=config.limit,
        subset=subset,
        images=found.images,
        difference=found.difference,
        agreement=found.agreement,
        agreement_interval=wilson_interval(round(found.agreement * found.images), found.images),
        accuracy_before=right_before / found.images,
        interval_before=wilson_interval(right_before, found.images),
        accuracy_after=right_after / found.images,
        interval_after=interval,
        baseline=trivial,
        size_before=run.file.stat().st_size,
        size_after=size,
        ms_before=ms_before,
        ms_after=ms_after,
        fitted_to=len(examples),
        from_bytes=from_bytes,
        notes=(*notes, *more, *filter(None, [warning])),
    )


def _images(run: Bundle, data: Path | None) -> tuple[Path, list[Row], list[str]]:
    """The data folder, the rows of the run's split whose images are there and unchanged, and a note on the others."""
    root = data or Path(run.info.data.path)
    if data is None and not root.is_dir():
        raise ImgclfError(
            f"{root}: the run's data folder is no longer there, and an export is held against the run on its images; "
            "say where they are now: imgclf export FOLDER"
        )
    check_data_folder(root)
    manifest, _others, notes = scoring.as_named(root, scoring.manifest_of(run))
    wanted = [row for row in manifest.rows if (root / row.path).is_file()]
    hashes = file_index.content_hashes(root, [row.path for row in wanted])
    rows = [row for row in wanted if hashes.get(row.path) == row.sha256]
    lost = len(manifest.rows) - len(rows)
    if lost:
        notes.append(f"images of the run's split that are gone or have changed, and were skipped: {lost}")
    return root, rows, notes


def _some(rows: list[Row], most: int) -> list[Row]:
    """Evenly spaced, and so of every class that is not rare, since rows are in order of their paths."""
    return rows[:: math.ceil(len(rows) / most)] if rows else []


def _compared(root: Path, rows: list[Row]) -> tuple[Subset, list[Row]]:
    """The subset that the export is compared on, test or else validation, and some of its rows."""
    subset: Subset = "test" if any(row.split == "test" for row in rows) else "val"
    compared = _some([row for row in rows if row.split == subset], COMPARED)
    if not compared:
        raise ImgclfError(f"{root}: no image of the run's {subset} set is there to hold the export against")
    return subset, compared


def _fitting(rows: list[Row]) -> list[Row]:
    """Images that int8 is fitted to: validation ones, which the test does not see, or else training ones."""
    validation = [row for row in rows if row.split == "val"]
    return _some(validation or [row for row in rows if row.split == "train"], _FITTED)


def _examples(run: Bundle, root: Path, rows: list[Row]) -> list[decode.Image]:
    """The images that int8 is fitted to, of those that can be read. Raises ImgclfError when there are none."""
    found = ordered_map(lambda row: load_image(run, root, row), _fitting(rows))
    examples = [image for image in found if image is not None]
    if not examples:
        raise ImgclfError(f"{root}: none of the images for int8 quantization can be read; run {command('clean', root)}")
    return examples


def _baseline(run: Bundle, true: NDArray[np.int64], right: int) -> Baseline:
    """Always predict the largest class, on images of these classes (n,), of which the exported file has `right` right."""
    name = run.info.metrics.val_baseline.class_name
    return baseline.baseline(name, int((true == run.class_names.index(name)).sum()), right, len(true))


def _note(run: Bundle, quantize: Quantize) -> dict[str, Any]:
    """What travels inside; probabilities need no temperature any more, it is in the weights."""
    return {
        "format": 1,
        "class_names": list(run.class_names),
        "preprocessing": dataclasses.asdict(run.preprocessing),
        "temperature": run.temperature,
        "calibrated": True,
        "quantize": quantize,
        "model": run.info.model,
        "run": run.path.resolve().name,
        "finished": run.info.finished,
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

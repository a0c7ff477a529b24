"""Write an evaluation as JSON, CSV, plots and an HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output
from imgclf.core.remedies import why
from imgclf.evaluate.scores import Evaluation
from imgclf.evaluation import calibration
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode
from imgclf.models import prediction
from imgclf.models.bundle import Bundle
from imgclf.reports import evaluation_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(evaluation: Evaluation, run_dir: Path) -> None:
    """Write evaluation-<name>.json, predictions-<name>.csv, confusion-<name>.png and calibration-<name>.png into a run."""
    from imgclf.reports import plots, tables

    try:
        atomic.write_json(run_dir / f"evaluation-{evaluation.name}.json", evaluation.to_dict())
        tables.write_csv(evaluation.predictions, run_dir / f"predictions-{evaluation.name}.csv")
        low, high = evaluation.interval
        title = (
            f"{evaluation.name}: {evaluation.accuracy:.1%} of {evaluation.images} images correct ({low:.1%} to {high:.1%})\n"
            f"always {evaluation.baseline.class_name}: {evaluation.baseline.accuracy:.1%}"
        )
        plot = plots.confusion(evaluation.confusion, evaluation.class_names, title)
        plots.save(plot, run_dir / f"confusion-{evaluation.name}.png")
        plots.save(_calibration(evaluation), run_dir / f"calibration-{evaluation.name}.png")
    except OSError as error:
        raise ImgclfError(f"{run_dir}: the results cannot be written: {why(error, 'copy the run elsewhere')}") from error


def _calibration(evaluation: Evaluation) -> "Figure":
    from imgclf.reports import plots

    true, probabilities = evaluation.scored.true, evaluation.scored.probabilities[0]
    bins, curve = calibration.reliability(true, probabilities), calibration.risk_coverage(true, probabilities)
    of_bins = _wilson(bins[0], bins[2])
    of_curve = _wilson(curve[1] * len(true), curve[2])
    return plots.calibration(bins, curve, (of_bins, of_curve))


def _wilson(counts: NDArray[Any], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 95% Wilson intervals, (n, 2), of fractions of counts; 0 to 1 for an undefined fraction."""
    pairs = zip(np.rint(counts).astype(int).tolist(), np.nan_to_num(fractions).tolist(), strict=True)
    return np.array([wilson_interval(round(fraction * count), count) for count, fraction in pairs])


def check_page(path: Path, bundle: Bundle, data: Path | None) -> None:
    """Raise an error if the page cannot be written to this path. Call it before the evaluation, which takes time."""
    check_output(path, data or Path(bundle.info.data.path), ".html", evaluation_page.START, "--html")


def write_page(evaluation: Evaluation, bundle: Bundle, path: Path) -> None:
    """Write a self-contained HTML page: metrics, confusion matrix, classes, calibration, slices, and the worst errors."""
    from imgclf.reports import plots

    drawn = {"calibration": plots.png(_calibration(evaluation))}
    if len(evaluation.class_names) > evaluation_page.MOST_CLASSES:
        drawn["confusion"] = plots.png(plots.confusion(evaluation.confusion, evaluation.class_names, "confusion"))
    about = (
        f"{bundle.info.model} at {bundle.preprocessing.width} x {bundle.preprocessing.height} pixels, trained "
        f"{bundle.info.finished[:16].replace('T', ' ')} UTC"
    )

    def overlay(image: decode.Image, small: decode.Image, label: str) -> decode.Image:
        return prediction.overlay(bundle, image, small, label)

    page = evaluation_page.Page(evaluation.to_dict(), evaluation.errors, about, drawn)
    evaluation_page.write(path, Path(evaluation.data), page, overlay)

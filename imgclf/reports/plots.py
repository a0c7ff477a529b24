"""Matplotlib figures, drawn without pyplot and with Matplotlib's default style. Functions return figures and do not show them.

No display is needed. The user's settings (matplotlibrc, MPLBACKEND) do not affect the figures and are not changed.
"""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from imgclf.evaluation.baseline import Baseline
    from imgclf.reports.image_page import Histogram

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # do not warn about a home folder that is not writable


@contextlib.contextmanager
def _defaults() -> Iterator[None]:
    """Use Matplotlib's default style inside the block. All figures are created and drawn in such a block."""
    load_matplotlib()
    from matplotlib import style

    with style.context("default"):
        yield


def load_matplotlib() -> None:
    """Import Matplotlib without MPLBACKEND: the import fails if its value is unknown, such as the backend of a notebook."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except (OSError, ValueError) as error:  # for example, a binary matplotlibrc
        raise ImgclfError(
            f"Matplotlib cannot be imported ({error}); fix or move its settings file: matplotlibrc here or in "
            "~/.config/matplotlib"
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # for other plots in this process


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG atomically."""
    with atomic.atomic_path(path) as temporary:
        temporary.write_bytes(png(figure))


@_defaults()
def png(figure: "Figure") -> bytes:
    """Return a figure as PNG."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # class names in a script that no installed font covers
        figure.savefig(content, format="png", dpi=110, metadata={"Software": "imgclf"})
    return content.getvalue()


@_defaults()
def curves(history: Sequence[Mapping[str, Any]], interval: tuple[float, float], trivial: "Baseline") -> "Figure":
    """Plot loss and accuracy by epoch, for training and validation, with the best epoch marked.

    Args:
        history: Rows of history.csv.
        interval: 95% interval of the validation accuracy in the best epoch.
        trivial: The baseline on the validation images.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    best = [entry for entry in history if entry["is_best"]][-1]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [entry[name] for entry in history], marker=".", color="tab:blue", label="train")
        axes.plot(epochs, [entry[f"val_{name}"] for entry in history], marker=".", color="tab:orange", label="validation")
        axes.axvline(best["epoch"], color="grey", linestyle=":", linewidth=1)
        label = f"best epoch {best['epoch']}: {best[f'val_{name}']:.3f}"
        if name == "accuracy":
            label += f" ({interval[0]:.3f} to {interval[1]:.3f})"
            axes.vlines(best["epoch"], *interval, color="tab:red", linewidth=2, alpha=0.5)
            axes.axhline(trivial.accuracy, color="grey", linestyle="--", linewidth=1, label=f"baseline: {trivial.accuracy:.3f}")
        axes.plot([best["epoch"]], [best[f"val_{name}"]], marker="*", markersize=13, color="tab:red", linestyle="", label=label)
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=name)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


@_defaults()
def rates(rates: Sequence[float], losses: Sequence[float], suggestion: float) -> "Figure":
    """Plot the smoothed loss by learning rate, with the suggested rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="tab:blue")
    axes.axvline(suggestion, color="tab:red", linestyle=":", label=f"suggested: {suggestion:.1g}")
    axes.set(title="Loss by learning rate", xlabel="learning rate", ylabel="training loss, smoothed", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


@_defaults()
def histograms(classes: "Sequence[Histogram]", title: str) -> "Figure":
    """Plot sizes, aspect ratios and brightness, with one line for each class (one line in total for more than ten classes)."""
    import numpy as np
    from matplotlib.figure import Figure

    from imgclf.reports import image_page

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    figure.suptitle(title)
    kinds = (
        ("size", "shorter side, pixels", [str(edge) for edge in image_page.SIZES[:-1]]),
        ("aspect", "width : height", [f"{edge:.2f}" for edge in image_page.ASPECTS[:-1]]),
        ("brightness", "mean brightness", [f"{edge:.2f}" for edge in image_page.BRIGHTNESSES[:-1]]),
    )
    for axes, (kind, heading, edges) in zip(figure.subplots(1, 3), kinds, strict=True):
        counts = {one.label: np.array(getattr(one, kind)) for one in classes}
        if len(counts) > 10:
            counts = {f"all {len(counts)} classes": np.sum(list(counts.values()), axis=0)}
        for name, values in counts.items():
            axes.step(range(len(values)), values / max(1, values.sum()), where="mid", label=name)
        axes.set(xlabel=f"{heading} (lower edge)", ylabel="fraction of the class", ylim=(0, None))
        axes.set_xticks(range(len(edges)), edges, rotation=60)
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


@_defaults()
def confusion(matrix: "NDArray[np.int64]", class_names: Sequence[str], title: str) -> "Figure":
    """Plot a confusion matrix: counts as text, fractions of the true class as colour."""
    import numpy as np
    from matplotlib.figure import Figure

    count = len(class_names)
    side = min(24.0, max(4.5, 1.6 + 0.62 * count))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    fraction = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    drawn = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    short = [name if len(name) <= 18 else name[:17] + "…" for name in class_names]
    turn = 0 if count <= 3 else 60
    axes.set_xticks(range(count), short, rotation=turn, ha="center" if not turn else "right", rotation_mode="anchor")
    axes.set_yticks(range(count), short)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    if count <= 30:
        for row in range(count):
            for column in range(count):
                colour = "white" if fraction[row, column] > 0.55 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(drawn, ax=axes, label="fraction of the true class", fraction=0.046)
    return figure


@_defaults()
def calibration(
    bins: "tuple[NDArray[Any], ...]", coverage: "tuple[NDArray[Any], ...]", intervals: "tuple[NDArray[Any], NDArray[Any]]"
) -> "Figure":
    """Plot a reliability diagram, and the accuracy by coverage.

    The coverage is the fraction of images that are predicted if only the most confident predictions are used.

    Args:
        bins: From `calibration.reliability`.
        coverage: From `calibration.risk_coverage`.
        intervals: 95% intervals of the accuracy, (n, 2), for the points of `bins` and of `coverage`.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts, confidence, accuracy = bins
    some = counts > 0
    width = 1 / len(counts)
    left.bar((np.arange(len(counts)) + 0.5)[some] * width, accuracy[some], 0.92 * width, color="tab:blue", alpha=0.45)
    of_bins, of_curve = intervals
    left.vlines(confidence[some], *of_bins[some].T, color="tab:blue", linewidth=1)
    left.plot(confidence[some], accuracy[some], marker="o", linestyle="", color="tab:blue", label="accuracy, 95% interval")
    left.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    for place, count in zip((np.arange(len(counts)) + 0.5)[some] * width, counts[some], strict=True):
        left.text(place, 0.012, str(count), ha="center", va="bottom", fontsize=7, rotation=90)
    left.set(title="Reliability diagram (with images per bin)", xlabel="confidence", ylabel="accuracy")
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    _thresholds, covered, covered_accuracy = coverage
    right.fill_between(covered, *of_curve.T, color="tab:orange", alpha=0.2, linewidth=0, label="95% interval")
    right.plot(covered, covered_accuracy, color="tab:orange")
    right.legend(loc="lower left")
    right.set(title="Accuracy of the most confident predictions", xlabel="coverage (fraction of images)", ylabel="accuracy")
    least = min(float(covered_accuracy.min()), float(of_curve[-1, 0])) - 0.02
    right.set(xlim=(0, 1.01), ylim=(min(0.95, least), 1.002))
    left.legend(loc="upper left")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure

"""Write the evaluation of a run as one self-contained HTML page: metrics, tables, plots and the worst errors. No script."""

import base64
import dataclasses
import html
import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imgclf
from imgclf.core.errors import ImageError
from imgclf.core.files import atomic
from imgclf.images import decode, preprocess

START = "<!doctype html><!-- imgclf -->"  # marks a file that imgclf wrote and may overwrite
TEMPLATE = Path(__file__).parent / "page" / "scorecard.html"
MOST_CLASSES = 20  # of a confusion matrix as a table; with more classes it is a plot
MOST_ERRORS = 48
MOST_OVERLAYS = 24  # saliency maps; each takes a third of a second
SIDE = 200  # pixels of a thumbnail's longer side


# (image, the same image as a thumbnail, class name) -> the thumbnail with the saliency map
Overlay = Callable[[decode.Image, decode.Image, str], decode.Image]


@dataclasses.dataclass(frozen=True)
class Page:
    """The content of the page.

    metrics: As in evaluation-<name>.json.
    errors: Wrong predictions, with the highest probability first.
    about: A line about the run.
    plots: PNGs by name: `calibration`, and `confusion` if there are more than MOST_CLASSES classes.
    """

    metrics: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]]
    about: str
    plots: Mapping[str, bytes]


def write(path: Path, root: Path, page: Page, overlay: Overlay) -> None:
    """Write the page.

    Args:
        root: The data folder.
        overlay: Draws the saliency map of the predicted class; called for the first MOST_OVERLAYS errors.
    """
    metrics = page.metrics
    low, high = metrics["interval"]
    title = f"{metrics['accuracy']:.1%} correct ({low:.1%} to {high:.1%}): {Path(metrics['run']).name}"
    body = "".join(
        (
            _head(title, metrics, page.about),
            _section("Confusion matrix", _confusion(metrics, page.plots)),
            _section("Classes", _classes(metrics)),
            _section("Calibration", _calibration(metrics, page.plots)),
            _section("Slices", _slices(metrics)),
            _section("Errors", _errors(path, root, page.errors, overlay)),
        )
    )
    text = TEMPLATE.read_text("utf-8").replace("@TITLE@", _e(title)).replace("@VERSION@", _e(imgclf.__version__))
    atomic.write_atomic(path, text.replace("@BODY@", body))


def _e(text: object) -> str:
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode())


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{_e(heading)}</h2>{content}</section>\n"


def _number(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _interval(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _bar(fraction: float) -> str:
    return f"<td class=bar style='--fraction:{100 * fraction:.1f}%'>{fraction:.3f}"


def _head(title: str, metrics: Mapping[str, Any], about: str) -> str:
    low, high = metrics["interval"]
    trivial = metrics["baseline"]
    rows = [
        ("F1, mean over classes", _number(metrics["macro_f1"]), _interval(metrics["macro_f1_interval"])),
        ("F1, weighted by class size", _number(metrics["weighted_f1"]), _interval(metrics["weighted_f1_interval"])),
        *((f"top-{k} accuracy", _number(value), _interval(metrics["top_intervals"][k])) for k, value in metrics["top"].items()),
        ("ROC-AUC", _number(metrics["auc"]), ""),
        ("average precision", _number(metrics["average_precision"]), ""),
        ("log loss", _number(metrics["loss"]), ""),
        ("expected calibration error", _number(metrics["calibration_error"]), ""),
    ]
    table = "".join(f"<tr><th>{_e(name)}<td>{value}<td>{interval}" for name, value, interval in rows)
    notes = "".join(f"<p class=note>{_e(note)}" for note in metrics["notes"])
    if metrics["skipped"]:
        files = "".join(f"<li>{_e(path)}: {_e(reason)}" for path, reason in metrics["skipped"][:20])
        notes += f"<p class=note>unreadable files, skipped: {len(metrics['skipped'])}<ul>{files}</ul>"
    return (
        f"<header><h1>{_e(title)}</h1><p>{_e(metrics['run'])} on {_e(metrics['on'])}, {metrics['images']:,} images of "
        f"{_e(metrics['data'])}<br>{_e(about)}</p>{notes}"
        f"<div class=score><strong>{metrics['accuracy']:.1%}</strong>"
        f"<span>accuracy; 95% interval {low:.1%} to {high:.1%}</span>"
        f"<i><b style='left:{100 * low:.2f}%;width:{max(0.5, 100 * (high - low)):.2f}%'></b>"
        f"<s style='left:{100 * trivial['accuracy']:.2f}%'></s></i>"
        f"<p class=baseline>The line on the bar is the baseline: {trivial['accuracy']:.1%} ({trivial['interval'][0]:.1%} to "
        f"{trivial['interval'][1]:.1%}), always predicting {_e(trivial['class_name'])}, the largest training class.</p></div>"
        f"<table class=metrics><tr><th><td><td class=soft>95% interval{table}</table></header>\n"
    )


def _confusion(metrics: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    if "confusion" in plots:
        return _plot(plots["confusion"], "confusion matrix")
    names, matrix = metrics["class_names"], metrics["confusion"]
    heads = "".join(f"<th scope=col>{_e(name)}" for name in names)
    rows = []
    for place, (name, row) in enumerate(zip(names, matrix, strict=True)):
        total = max(1, sum(row))
        cells = "".join(
            f"<td class={'right' if column == place else 'wrong'} style='--fraction:{100 * count / total:.1f}%'>{count:,}"
            for column, count in enumerate(row)
        )
        rows.append(f"<tr><th scope=row>{_e(name)}{cells}")
    return (
        f"<p>Rows are true classes, columns are predicted classes.</p><div class=wide><table class=confusion>"
        f"<tr><th>{heads}{''.join(rows)}</table></div>"
    )


def _classes(metrics: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{_e(one['name'])}"
        + "".join(
            f"{_bar(one[metric])} <small>{_interval(one[f'{metric}_interval'])}</small>" for metric in ("precision", "recall")
        )
        + _bar(one["f1"])
        + f"<td>{one['support']:,}"
        for one in sorted(metrics["classes"], key=lambda one: float(one["f1"]))
    )
    heads = "".join(f"<th scope=col>{name}" for name in ("class", "precision", "recall", "F1", "images"))
    return f"<div class=wide><table class=list><tr>{heads}{rows}</table></div>"


def _calibration(metrics: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    return (
        f"<p>The expected calibration error is {metrics['calibration_error']:.4f}. Before calibration on the validation images "
        f"it was {metrics['uncalibrated_error']:.4f} (temperature {metrics['temperature']:.2f}).</p>"
        + _plot(plots["calibration"], "reliability diagram, and accuracy by coverage")
    )


def _slices(metrics: Mapping[str, Any]) -> str:
    if not metrics["slices"]:
        return "<p>Too few images to compare slices.</p>"
    rows = "".join(
        f"<tr{' class=worse' if one['is_worse'] else ''}><th scope=row>{_e(one['by'])}<td>{_e(one['value'])}"
        f"{_bar(one['accuracy'])}<td>{_interval(one['interval'])}"
        f"<td>{one['images']:,}"
        for one in metrics["slices"]
    )
    heads = "".join(f"<th scope=col>{name}" for name in ("property", "value", "accuracy", "95% interval", "images"))
    return (
        "<p>Slices with a significantly lower accuracy than all images together are marked: "
        f"{sum(one['is_worse'] for one in metrics['slices'])} of {len(metrics['slices'])}.</p>"
        f"<div class=wide><table class=list><tr>{heads}{rows}</table></div>"
    )


def _errors(path: Path, root: Path, errors: Sequence[Mapping[str, Any]], overlay: Overlay) -> str:
    if not errors:
        return "<p>None: all images are predicted correctly.</p>"
    shown = errors[:MOST_ERRORS]
    listed = "".join(_error(path, root, one, overlay if place < MOST_OVERLAYS else None) for place, one in enumerate(shown))
    more = (
        f"{len(shown):,} of {len(errors):,}, with the highest probability first."
        if len(shown) < len(errors)
        else "The highest probability comes first."
    )
    more += f" Up to {MOST_OVERLAYS} have a saliency map: blurring the highlighted areas lowers the probability most."
    return f"<p>{more}</p><div class=grid>{listed}</div>"


def _error(path: Path, root: Path, error: Mapping[str, Any], overlay: Overlay | None) -> str:
    file = root / str(error["path"])
    href = urllib.parse.quote(os.fsencode(Path(os.path.relpath(file, path.resolve().parent)).as_posix()))
    try:
        image = decode.decode(decode.read(file))
        small = preprocess.fit(image, min(SIDE, max(image.shape[:2])))
        shown = _thumbnail(small, str(error["path"]))
        if overlay:
            shown += _thumbnail(overlay(image, small, str(error["predicted"])), "saliency map")
    except ImageError as problem:
        shown = f"<span class=none>{_e(problem)}</span>"
    return (
        f"<figure><a href='{href}'>{shown}</a><figcaption><b>{_e(error['predicted'])}</b> {error['probability']:.3f}, "
        f"true class {_e(error['label'])}<div>{_e(error['path'])}</div></figcaption></figure>"
    )


def _thumbnail(image: decode.Image, alt: str) -> str:
    content = base64.b64encode(preprocess.encode(image, ".jpg")).decode()
    return f"<img src='data:image/jpeg;base64,{content}' alt='{_e(alt)}' loading=lazy>"


def _plot(content: bytes, alt: str) -> str:
    return f"<img class=plot src='data:image/png;base64,{base64.b64encode(content).decode()}' alt='{alt}'>"

"""The registry of checks: what imgclf looks for in a data folder, and what it does about it."""

import dataclasses
from typing import Literal

from imgclf.images import similarity

Action = Literal["report", "quarantine", "rename", "ignore"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing to look for. default, strict: what `clean` does by either policy. threshold: it is found from this score on."""

    name: str
    meaning: str
    default: Action = "report"
    strict: Action = "quarantine"
    threshold: float | None = None


CHECKS = {
    check.name: check
    for check in (
        Check("broken", "cannot be used: no image, damaged, over the limits", default="quarantine"),
        Check("unsupported", "an image in a format that imgclf does not read; convert it", strict="report"),
        Check("extension", "named as another format, or without an extension", default="rename", strict="rename"),
        Check("missing-end", "the mark at the end is missing; every pixel is there", strict="report"),
        Check("trailing", "more bytes behind the image's end", strict="report"),
        Check("animated", "several images in one file; the first is used", strict="report"),
        Check("duplicate", "the same pixels as another file of its class", default="quarantine"),
        Check("conflict", "the same or nearly the same image under another class"),
        Check("leakage", "the same or nearly the same image in another part of a folder that is split"),
        Check("near-duplicate", "nearly the same image as another of its class", threshold=similarity.LEAST_SIMILARITY),
        Check("mirrored", "a mirror image of another of its class"),
        Check("blank", "nearly all pixels alike", threshold=0.98),
        Check("dark", "nearly black", threshold=0.70),
        Check("bright", "nearly white", threshold=0.70),
        Check("low-contrast", "hardly any difference between dark and bright", threshold=0.80),
        Check("blurry", "nothing sharp, where the folder's images usually are", threshold=0.70),
        Check("tiny", "few pixels, where the folder's images usually have more", threshold=0.50),
        Check("odd-aspect", "much longer than wide", threshold=0.70),
        Check("grayscale", "without colour, where nearly all the folder's images have it", strict="report", threshold=0.99),
    )
}
# What a score says when another fault is there already: a blank image is dark or bright, without contrast and never sharp.
_IMPLIED = {
    "dark": ("blank",), "bright": ("blank",), "low-contrast": ("blank", "dark", "bright"),
    "blurry": ("blank", "low-contrast", "tiny"), "grayscale": ("blank", "dark", "bright"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one file. score: 0 to 1, the worse the higher. other: the file that it resembles."""

    path: str
    check: str
    score: float
    detail: str
    other: str = ""

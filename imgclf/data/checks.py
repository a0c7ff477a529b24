"""The registry of checks: what imgclf looks for in a data folder, and what it does about it."""

import dataclasses
from typing import Literal

from imgclf.images import similarity

Action = Literal["report", "quarantine", "rename", "ignore"]


@dataclasses.dataclass(frozen=True)
class Check:
    """A test that finds issues. default, strict: the action of `clean` by either policy. threshold: the lowest score that is an
    issue. by: the command that runs it.
    """

    name: str
    meaning: str
    default: Action = "report"
    strict: Action = "quarantine"
    threshold: float | None = None
    by: Literal["clean", "audit"] = "clean"


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
        Check("label", "another class is more likely, by a classifier that was not trained on the image", by="audit"),
        Check("outlier", "unlike every other image of the folder", by="audit"),
        Check("similar", "nearly the same as another image of the folder, by the features of a backbone", by="audit"),
    )
}
CLEAN_CHECKS = {name: check for name, check in CHECKS.items() if check.by == "clean"}
AUDIT_CHECKS = {name: check for name, check in CHECKS.items() if check.by == "audit"}
# What a score says when another fault is there already: a blank image is dark or bright, without contrast and never sharp.
IMPLIED = {
    "dark": ("blank",), "bright": ("blank",), "low-contrast": ("blank", "dark", "bright"),
    "blurry": ("blank", "low-contrast", "tiny"), "grayscale": ("blank", "dark", "bright"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Issue:
    """A problem of one file, and what is done about it.

    label: the class of the file. score: 0 to 1, the worse the higher. other: the file that it resembles. suggestion: the
    likelier class, for `label`. action: report, quarantine, rename or relabel; in the past tense once it is done, and stuck for
    a file that should have moved and could not. moved_to: where the file lies afterwards, if it moves.
    """

    path: str
    check: str
    score: float
    detail: str
    other: str = ""
    label: str = ""
    suggestion: str = ""
    action: str = "report"
    moved_to: str = ""

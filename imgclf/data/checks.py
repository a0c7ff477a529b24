"""The registry of checks: the issues that imgclf finds in a data folder, and the action for each."""

import dataclasses
from typing import Literal

from imgclf.images import similarity

Action = Literal["report", "quarantine", "rename", "ignore"]


@dataclasses.dataclass(frozen=True)
class Check:
    """A test that finds issues.

    default, strict: The action of `clean` under the policy of this name.
    threshold: The lowest score that counts as an issue.
    detail: The text about one image, for a check with a score in `images/quality.py`. It can contain {score}, {rest}
        (1 - score), {width} and {height}.
    implied_by: Checks whose issues include this one. If an image has one of these issues, this check does not report it.
    by: The command that runs the check.
    """

    name: str
    meaning: str
    default: Action = "report"
    strict: Action = "quarantine"
    threshold: float | None = None
    detail: str = ""
    implied_by: tuple[str, ...] = ()
    by: Literal["clean", "audit"] = "clean"


CHECKS = {
    check.name: check
    for check in (
        Check("broken", "unusable: not an image, damaged, or over the size limits", default="quarantine"),
        Check("unsupported", "an image in a format that imgclf does not read; convert it", strict="report"),
        Check("extension", "the extension is that of another format, or is missing", default="rename", strict="rename"),
        Check("missing-end", "the end marker is missing, but all pixels are present", strict="report"),
        Check("trailing", "extra bytes after the end of the image", strict="report"),
        Check("animated", "several images in one file; only the first is used", strict="report"),
        Check("duplicate", "the same pixels as another image of its class", default="quarantine"),
        Check("conflict", "the same or nearly the same image in another class"),
        Check("leakage", "the same or nearly the same image in another subset of the split"),
        Check("near-duplicate", "nearly the same as another image of its class", threshold=similarity.MIN_SIMILARITY),
        Check("mirrored", "the mirror image of another image of its class"),
        Check(
            "blank",
            "nearly all pixels have almost the same brightness",
            threshold=0.98,
            detail="{score:.1%} of the pixels have almost the same brightness",
        ),
        Check(
            "dark",
            "nearly black",
            threshold=0.70,
            detail="nearly all pixels are below {rest:.0%} of full brightness in every channel",
            implied_by=("blank",),
        ),
        Check(
            "bright",
            "nearly white",
            threshold=0.70,
            detail="nearly all pixels are above {score:.0%} of full brightness in every channel",
            implied_by=("blank",),
        ),
        Check(
            "low-contrast",
            "almost no difference between dark and bright pixels",
            threshold=0.80,
            detail="uses {rest:.0%} of the brightness range",
            implied_by=("blank", "dark", "bright"),
        ),
        Check(
            "blurry",
            "not sharp, unlike most images of the folder",
            threshold=0.70,
            detail="blur {score:.2f} of 1",
            implied_by=("blank", "low-contrast", "tiny"),
        ),
        Check("tiny", "much smaller than most images of the folder", threshold=0.50, detail="{width} x {height} pixels"),
        Check("odd-aspect", "an unusual aspect ratio", threshold=0.70, detail="{width} x {height} pixels"),
        Check(
            "grayscale",
            "without colour, unlike nearly all images of the folder",
            strict="report",
            threshold=0.99,
            detail="no colour",
            implied_by=("blank", "dark", "bright"),
        ),
        Check("label", "a classifier that was not trained on this image predicts another class", by="audit"),
        Check("outlier", "unlike all other images of the folder", by="audit"),
        Check("similar", "nearly the same backbone features as another image of the folder", by="audit"),
    )
}
CLEAN_CHECKS = {name: check for name, check in CHECKS.items() if check.by == "clean"}
AUDIT_CHECKS = {name: check for name, check in CHECKS.items() if check.by == "audit"}


@dataclasses.dataclass(frozen=True, slots=True)
class Issue:
    """A problem of one file, and the action taken.

    label: The class of the file.
    score: 0 to 1; higher is worse.
    other: The file that it resembles.
    suggestion: The more likely class (check `label` only).
    action: report, quarantine, rename or relabel; in the past tense once it is done, and stuck if the file could not move.
    moved_to: The new path of the file, if it moves.
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

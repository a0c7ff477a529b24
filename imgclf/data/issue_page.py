"""Collect the images and issues that an HTML page shows, each image beside the image that it resembles."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from imgclf.data.checks import CHECKS, Issue
from imgclf.data.layout import DataFile
from imgclf.images.measurements import Measurements
from imgclf.reports.image_page import Image


def measured(files: Sequence[DataFile], measured: Measurements) -> dict[str, Image]:
    """Return every file by path, without issues. measured: (n,) measurements of the files, in the same order."""
    return {
        file.path: Image(
            file.path, file.label or "", file.subset or "", one["format"].decode(), int(one["width"]), int(one["height"])
        )
        for file, one in zip(files, measured, strict=True)
    }


def with_issues(
    images: Mapping[str, Image], paths: Iterable[str], issues: Iterable[Issue], action: Callable[[Issue], str]
) -> list[Image]:
    """Return the images with these paths, each with its issues and the image that it resembles.

    Args:
        images: Images by path. The image that another one resembles may be missing here; then only its path is known.
        action: Returns the text for the action on an issue.
    """
    of_path: dict[str, list[Issue]] = collections.defaultdict(list)
    for issue in issues:
        of_path[issue.path].append(issue)
    result = []
    for path in paths:
        own = of_path[path]
        shown = tuple((issue.check, issue.score, action(issue), issue.detail) for issue in own)
        image = dataclasses.replace(images[path], issues=shown)
        if name := next((issue.other for issue in own if issue.other), ""):
            other = images.get(name, Image(name, "", "", "", 0, 0))
            size = (other.width, other.height)
            image = dataclasses.replace(image, other=name, other_label=other.label, other_size=size, other_now=other.now)
        result.append(image)
    return result


def checks(issues: Iterable[Issue]) -> dict[str, tuple[int, str]]:
    """Return (number of files, meaning) of each check with issues. A file with several issues of one check counts once."""
    counts = collections.Counter(check for check, _path in {(issue.check, issue.path) for issue in issues})
    return {name: (counts[name], check.meaning) for name, check in CHECKS.items() if counts[name]}

"""How far scored images come in groups, which intervals and tests do not take into account yet."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Groups:
    """Scored images, the groups of the split that they lie in (an image alone is one), and the images of the largest one."""

    images: int
    groups: int
    largest: int


def count(names: Iterable[str]) -> Groups:
    """From the group of each image."""
    sizes = collections.Counter(names)
    return Groups(sizes.total(), len(sizes), max(sizes.values(), default=0))


def note(found: Groups | None, what: str) -> str:
    """A line on what counts these images as independent, as "the intervals"; empty where each is a group of its own.

    found: None where it is not known which images belong together.
    """
    if found is None or found.largest < 2:
        return ""
    return (
        f"{found.images:,} images in {found.groups:,} groups of up to {found.largest:,}: {what} treat all images as "
        "independent, so they are overconfident"
    )

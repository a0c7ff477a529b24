"""Groups among the scored images. Intervals and tests do not take them into account yet."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Groups:
    """Number of scored images, of their groups (a single image is a group), and of images in the largest group."""

    images: int
    groups: int
    largest: int


def count(names: Iterable[str]) -> Groups:
    """Count the groups, given the group of each image."""
    sizes = collections.Counter(names)
    return Groups(sizes.total(), len(sizes), max(sizes.values(), default=0))


def note(found: Groups | None, what: str) -> str:
    """A note that `what`, such as "the intervals", treats the images as independent; "" if all groups are single images.

    found: None if the groups are unknown.
    """
    if found is None or found.largest < 2:
        return ""
    return (
        f"{found.images:,} images in {found.groups:,} groups of up to {found.largest:,}: {what} treat all images as "
        "independent, so they are overconfident"
    )

"""Groups among the scored images. Intervals and tests do not account for groups yet."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Groups:
    """Number of scored images, number of their groups (an ungrouped image counts as a group), and size of the largest group."""

    images: int
    groups: int
    largest: int


def count(names: Iterable[str]) -> Groups:
    """Count the groups. names: the group of each image."""
    sizes = collections.Counter(names)
    return Groups(sizes.total(), len(sizes), max(sizes.values(), default=0))


def note(found: Groups | None, what: str) -> str:
    """Return a note that intervals or tests ignore the groups, or "" if every group is a single image.

    Args:
        found: the groups, or None if they are unknown.
        what: plural subject of the note, such as "the intervals".
    """
    if found is None or found.largest < 2:
        return ""
    return (
        f"{found.images:,} images in {found.groups:,} groups of up to {found.largest:,}: {what} treat all images as "
        "independent, so they are overconfident"
    )

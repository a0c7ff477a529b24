"""What was done about an issue, or would be in a dry run."""

import dataclasses
from collections.abc import Sequence

DONE = {"report": "reported", "quarantine": "quarantined", "rename": "renamed", "relabel": "relabelled"}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One finding and what was done about it, in the past tense; in a dry run what would be, as `quarantine`.

    action: report, quarantine, rename or relabel, and stuck for a file that should have moved and could not.
    """

    path: str
    check: str
    score: float
    action: str
    detail: str
    other: str = ""
    moved_to: str = ""


def paths(outcomes: Sequence[Outcome]) -> set[str]:
    """The files of these outcomes. A file may have several outcomes of one check, such as conflicts with two other files."""
    return {outcome.path for outcome in outcomes}

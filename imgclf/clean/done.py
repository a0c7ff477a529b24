"""The words for actions that were taken."""

from collections.abc import Sequence

from imgclf.data.checks import Issue

DONE = {"report": "reported", "quarantine": "quarantined", "rename": "renamed", "relabel": "relabelled"}


def paths(issues: Sequence[Issue]) -> set[str]:
    """Return the files of these issues. A file may have several issues of one check, such as conflicts with two files."""
    return {issue.path for issue in issues}

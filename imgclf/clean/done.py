"""What was done about an issue, or would be in a dry run."""

from collections.abc import Sequence

from imgclf.data.checks import Issue

DONE = {"report": "reported", "quarantine": "quarantined", "rename": "renamed", "relabel": "relabelled"}


def paths(issues: Sequence[Issue]) -> set[str]:
    """The files of these issues. A file may have several issues of one check, such as conflicts with two other files."""
    return {issue.path for issue in issues}

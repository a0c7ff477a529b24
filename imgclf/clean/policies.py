"""The action and the threshold of each check."""

from collections.abc import Mapping

from imgclf.core.config import Policy
from imgclf.core.errors import UsageError
from imgclf.data.checks import CLEAN_CHECKS


def actions(policy: Policy, on: Mapping[str, str]) -> dict[str, str]:
    """Return the action of each check. Raises UsageError for an unknown check or action."""
    chosen: dict[str, str] = {
        name: {"default": one.default, "strict": one.strict, "report": "report"}[policy] for name, one in CLEAN_CHECKS.items()
    }
    for name, action in on.items():
        _check_name(name)
        allowed = ("report", "quarantine", "ignore") + (("rename",) if name == "extension" else ())
        if action not in allowed:
            raise UsageError(f"--on {name}={action}: unknown action {action!r}; choose {', '.join(allowed)}")
        chosen[name] = action
    return chosen


def limits(given: Mapping[str, float]) -> dict[str, float]:
    """Return the given thresholds. Raises UsageError for a check without one, and for a value outside 0 to 1."""
    for name, value in given.items():
        _check_name(name)
        if CLEAN_CHECKS[name].threshold is None:
            scored = ", ".join(check.name for check in CLEAN_CHECKS.values() if check.threshold is not None)
            raise UsageError(f"--threshold {name}: this check has no threshold; those that have: {scored}")
        if not 0 <= value <= 1:
            raise UsageError(f"--threshold {name}={value:g}: a threshold is a score from 0 to 1")
        if name == "near-duplicate" and value < (least := CLEAN_CHECKS[name].threshold or 0):
            raise UsageError(
                f"--threshold {name}={value:g}: different images would count as near-duplicates; give {least:g} or more"
            )
    return dict(given)


def _check_name(name: str) -> None:
    if name not in CLEAN_CHECKS:
        raise UsageError(f"unknown check {name!r}; choose {', '.join(CLEAN_CHECKS)}")

"""Types of the callbacks that long-running functions call to report progress."""

from collections.abc import Callable

Progress = Callable[[int, int], object]  # (done, total)
Stages = Callable[[str, int, int], object]  # (name of the stage, done, total)


def stage(stages: Stages | None, what: str) -> Progress | None:
    """Return the Progress callback of one stage."""
    return (lambda done, total: stages(what, done, total)) if stages else None

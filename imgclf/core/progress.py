"""How long work reports how far it is: a function to call, given by whoever wants to know."""

from collections.abc import Callable

Progress = Callable[[int, int], object]  # (done, total)
Stages = Callable[[str, int, int], object]  # (what is being done, done, total)


def stage(stages: Stages | None, what: str) -> Progress | None:
    """The Progress of one stage."""
    return (lambda done, total: stages(what, done, total)) if stages else None

"""A round or two of tests/benchmarks/faults.py for commands that move, replace or make files; it runs some hundred of all."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import faults


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    faults.stages(folder)
    return folder


@pytest.mark.parametrize("fault", ["kill", "vanish", "two", "clock"])
@pytest.mark.parametrize("command", ["clean", "undo", "apply", "share", "split", "export folders", "move", "move back"])
def test_nothing_is_lost_and_the_next_run_finishes(command: str, fault: str, base: Path) -> None:
    breaker = faults.Breaker(base, command, random.Random(f"{command} {fault}"))
    for _round in range(3 if fault == "kill" else 1):
        getattr(breaker, fault)()


@pytest.mark.long
@pytest.mark.parametrize("command", ["train", "audit", "keras"])
def test_what_is_made_is_whole_or_not_there(command: str, base: Path) -> None:
    breaker = faults.Breaker(base, command, random.Random(command))
    breaker.kill()
    breaker.two()

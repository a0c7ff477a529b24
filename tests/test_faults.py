"""Run one or two rounds of tests/benchmarks/faults.py, which runs hundreds, for commands that move, replace or make files."""

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


@pytest.fixture(scope="module")
def breakers(base: Path) -> dict[str, faults.Breaker]:
    """Cache of breakers, because making one runs its command twice."""
    return {}


def breaker_of(breakers: dict[str, faults.Breaker], base: Path, command: str, fault: str) -> faults.Breaker:
    if command not in breakers:
        breakers[command] = faults.Breaker(base, command, random.Random())
    breakers[command].chance.seed(f"{command} {fault}")
    breakers[command].counts.clear()
    return breakers[command]


PHASES = {  # the phases of each command; it is killed once in each
    "clean": {"state", "lock", "index", "plan", "moves"},
    "undo": {"state", "lock", "plan", "moves"},
    "apply": {"state", "lock", "plan", "moves"},
    "share": {"state", "index"},
    "split": {"state", "lock", "manifest"},
    "export folders": {"state", "folders"},
    "move": {"state", "plan", "lock", "moves"},
    "move back": {"lock", "plan", "moves"},
}


@pytest.mark.parametrize("command", PHASES)
def test_a_kill_in_every_phase_loses_nothing(command: str, base: Path, breakers: dict[str, faults.Breaker]) -> None:
    """The command is killed just before a change to the disk in that phase."""
    breaker = breaker_of(breakers, base, command, "step")
    assert breaker.phases.keys() == PHASES[command]
    breaker.step()
    assert breaker.counts["killed"] == len(PHASES[command])
    assert {f"in {phase}": 1 for phase in PHASES[command]}.items() <= breaker.counts.items()


@pytest.mark.parametrize("fault", ["vanish", "two", "clock"])
@pytest.mark.parametrize("command", PHASES)
def test_nothing_is_lost_and_the_next_run_finishes(
    command: str, fault: str, base: Path, breakers: dict[str, faults.Breaker]
) -> None:
    getattr(breaker_of(breakers, base, command, fault), fault)()


@pytest.mark.parametrize("command", ["clean", "move"])
def test_a_kill_at_a_random_instant_loses_nothing(command: str, base: Path, breakers: dict[str, faults.Breaker]) -> None:
    """The kill may also come between two changes to the disk, while SQLite or the decoder reads or writes."""
    breaker = breaker_of(breakers, base, command, "kill")
    for _round in range(3):
        breaker.kill()
    assert breaker.counts["killed"] >= 2
    landed = {word: count for word, count in breaker.counts.items() if word.startswith("in ")}
    assert sum(landed.values()) == breaker.counts["killed"], landed
    assert set(landed) <= {"in start", *(f"in {phase}" for phase in PHASES[command])}


MADE = {
    "train": {"state", "prepared", "runs"},
    "audit": {"state", "prepared", "features", "found"},
    "keras": {"new"},  # only the model: written under a temporary name, then renamed
}


@pytest.mark.long
@pytest.mark.parametrize("command", MADE)
def test_an_output_is_complete_or_absent_after_a_kill(command: str, base: Path) -> None:
    breaker = faults.Breaker(base, command, random.Random(command))
    assert breaker.phases.keys() == MADE[command]
    breaker.step()
    assert breaker.counts["killed"] == len(MADE[command])
    breaker.two()

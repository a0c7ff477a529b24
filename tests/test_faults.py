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


@pytest.fixture(scope="module")
def breakers(base: Path) -> dict[str, faults.Breaker]:
    """Those made so far: making one runs its command twice."""
    return {}


def breaker_of(breakers: dict[str, faults.Breaker], base: Path, command: str, fault: str) -> faults.Breaker:
    if command not in breakers:
        breakers[command] = faults.Breaker(base, command, random.Random())
    breakers[command].chance.seed(f"{command} {fault}")
    breakers[command].figures.clear()
    return breakers[command]


PHASES = {  # of each command, in each of which it is killed
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
def test_a_kill_in_every_phase(command: str, base: Path, breakers: dict[str, faults.Breaker]) -> None:
    """Each lands while the command runs, just before a change to the disk of that phase."""
    breaker = breaker_of(breakers, base, command, "step")
    assert breaker.phases.keys() == PHASES[command]
    breaker.step()
    assert breaker.figures["killed"] == len(PHASES[command])
    assert {f"in {phase}": 1 for phase in PHASES[command]}.items() <= breaker.figures.items()


@pytest.mark.parametrize("fault", ["vanish", "two", "clock"])
@pytest.mark.parametrize("command", PHASES)
def test_nothing_is_lost_and_the_next_run_finishes(
    command: str, fault: str, base: Path, breakers: dict[str, faults.Breaker]
) -> None:
    getattr(breaker_of(breakers, base, command, fault), fault)()


@pytest.mark.parametrize("command", ["clean", "move"])
def test_kills_at_random_instants_meet_a_command_that_runs(
    command: str, base: Path, breakers: dict[str, faults.Breaker]
) -> None:
    """Between two changes to the disk, too: in what SQLite and the decoder write and read."""
    breaker = breaker_of(breakers, base, command, "kill")
    for _round in range(3):
        breaker.kill()
    assert breaker.figures["killed"] >= 2
    landed = {word: count for word, count in breaker.figures.items() if word.startswith("in ")}
    assert sum(landed.values()) == breaker.figures["killed"], landed
    assert set(landed) <= {"in start", *(f"in {phase}" for phase in PHASES[command])}


MADE = {
    "train": {"state", "prepared", "runs"},
    "audit": {"state", "prepared", "features", "found"},
    "keras": {"new"},  # the model and nothing else: written beside its name, then renamed
}


@pytest.mark.long
@pytest.mark.parametrize("command", MADE)
def test_what_is_made_is_whole_or_not_there(command: str, base: Path) -> None:
    breaker = faults.Breaker(base, command, random.Random(command))
    assert breaker.phases.keys() == MADE[command]
    breaker.step()
    assert breaker.figures["killed"] == len(MADE[command])
    breaker.two()

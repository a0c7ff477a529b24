"""Moves, undo, recovery after a kill at every single step, atomic writes and the lock."""

import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import tree, write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import operations, plans
from imgclf.core.files.plans import Failure, Move
from imgclf.core.files.state_folder import state_folder
from imgclf.core.files.undo import undo_operations


def plan_names(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "journal").iterdir())


def plan(data: Path, word: str, *moves: Move) -> Path:
    """A plan that is not sealed, as one that came with somebody else's folder."""
    marked = [[move.source, move.target, plans.mark(os.lstat(data / move.source))] for move in moves]
    return write(
        data / ".imgclf/journal" / f"0001-clean.{word}.json", json.dumps({"format": 2, "how": "move", "moves": marked}).encode()
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        write(tmp_path / "data" / name, name.encode())
    return tmp_path / "data"


MOVES = [
    Move("a/1.jpg", ".imgclf/quarantine/0001/a/1.jpg"),
    Move("b/1.jpg", ".imgclf/quarantine/0001/b/1.jpg"),
    Move("a/2.jpg", "a/3.jpg"),
]


def test_apply_and_undo_restore_every_byte(data: Path) -> None:
    before, state = tree(data), state_folder(data)
    assert operations.apply(data, state, "clean", MOVES) == []
    assert tree(data) == {"a/3.jpg": b"a/2.jpg"}
    assert (state / "quarantine/0001/b/1.jpg").read_bytes() == b"b/1.jpg"
    made, failed = undo_operations(data, state)
    assert failed == []
    assert [move.target for move in made] == ["a/1.jpg", "b/1.jpg", "a/2.jpg"]
    assert tree(data) == before
    assert not (state / "quarantine").exists()
    assert plan_names(state) == ["0001-clean.undone.json"]
    assert undo_operations(data, state) == ([], [])


def test_undo_takes_back_all_batches_newest_first(data: Path) -> None:
    before, state = tree(data), state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/x.jpg")])
    operations.apply(data, state, "clean", [Move("a/x.jpg", "a/y.jpg")])
    assert plan_names(state) == ["0001-clean.done.json", "0002-clean.done.json"]
    undo_operations(data, state)
    assert tree(data) == before


def test_nothing_is_ever_overwritten(data: Path) -> None:
    state = state_folder(data)
    failures = operations.apply(data, state, "clean", [Move("a/1.jpg", "a/2.jpg")])
    assert failures == [Failure(Move("a/1.jpg", "a/2.jpg"), "2.jpg exists already")]
    assert tree(data)["a/2.jpg"] == b"a/2.jpg"


def test_undo_over_a_new_file_keeps_both_and_tries_again(data: Path) -> None:
    state = state_folder(data)
    operations.apply(data, state, "clean", MOVES)
    write(data / "a/1.jpg", b"new")
    _made, failed = undo_operations(data, state)
    assert [failure.move.target for failure in failed] == ["a/1.jpg"]
    assert tree(data) == {"a/1.jpg": b"new", "a/2.jpg": b"a/2.jpg", "b/1.jpg": b"b/1.jpg"}
    assert (state / "quarantine/0001/a/1.jpg").read_bytes() == b"a/1.jpg"
    (data / "a/1.jpg").unlink()
    _made, failed = undo_operations(data, state)
    assert failed == []
    assert tree(data)["a/1.jpg"] == b"a/1.jpg"


def test_batches_are_counted_beyond_four_digits(data: Path) -> None:
    state = state_folder(data)
    before = tree(data)
    (state / "quarantine" / "9998").mkdir(parents=True)
    for number, names in ((9999, ("a/1.jpg", "a/x.jpg")), (10000, ("a/x.jpg", "a/y.jpg"))):
        assert operations.next_number(state) == number
        operations.apply(data, state, "clean", [Move(*names)])
    assert [(one.number, one.state) for one in operations.history(data, state)] == [(9999, "done"), (10000, "done")]
    _made, failed = undo_operations(data, state, 9999)
    assert [failure.reason for failure in failed] == ["operation 10000 (clean) moved it again; undo that first"]
    assert undo_operations(data, state)[1] == []
    assert tree(data) == before
    with pytest.raises(ImgclfError, match="no operation 9999 to undo"):
        undo_operations(data, state, 9999)


def test_an_interrupted_undo_is_finished(data: Path) -> None:
    before, state = tree(data), state_folder(data)
    operations.apply(data, state, "clean", MOVES)
    interrupted = state / "journal" / "0001-clean.undoing.json"
    interrupted.with_name("0001-clean.done.json").rename(interrupted)
    (data / "a/3.jpg").rename(data / "a/2.jpg")  # the first of three was taken back when it was killed
    assert [batch.state for batch in operations.history(data, state)] == ["interrupted"]
    left = write(interrupted.with_name(".0001-clean.undoing.0123456789ab.tmp.json"), b"{")
    assert operations.recover(data, state) == ["finished an interrupted undo of clean"]
    assert not left.exists()
    assert tree(data) == before
    assert [batch.state for batch in operations.history(data, state)] == ["undone"]


def test_a_move_killed_between_link_and_unlink_is_made(data: Path) -> None:
    state = state_folder(data)
    plan(data, "doing", Move("a/1.jpg", "b/x.jpg"))
    os.link(data / "a/1.jpg", data / "b/x.jpg")
    assert len(operations.recover(data, state, foreign=True)) == 1
    assert tree(data) == {"a/2.jpg": b"a/2.jpg", "b/1.jpg": b"b/1.jpg", "b/x.jpg": b"a/1.jpg"}


def test_an_undo_takes_no_other_file_for_the_one_that_was_moved(data: Path) -> None:
    """Outside quarantine a file may have been replaced; one that was edited in its place keeps its number."""
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/9.jpg")])
    (data / "a/9.jpg").rename(data / "elsewhere.jpg")
    write(data / "a/9.jpg", b"another one")
    _made, failed = undo_operations(data, state)
    assert [failure.reason for failure in failed] == ["another file is there now"]
    (data / "elsewhere.jpg").replace(data / "a/9.jpg")
    with open(data / "a/9.jpg", "ab") as file:
        file.write(b" edited")
    made, failed = undo_operations(data, state)
    assert ([move.target for move in made], failed) == (["a/1.jpg"], [])
    assert (data / "a/1.jpg").read_bytes() == b"a/1.jpg edited"


def test_the_history_says_when_and_what(data: Path) -> None:
    state = state_folder(data)
    assert operations.apply(data, state, "clean", []) == []
    assert operations.history(data, state) == []
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    operations.apply(data, state, "clean--apply", [Move("a/1.jpg", "a/x.jpg")])
    operations.apply(data, state, "clean", [Move("a/2.jpg", "a/y.jpg")])
    first, second = operations.history(data, state)
    assert (first.number, first.command, first.state, first.moves) == (
        1,
        "clean --apply",
        "done",
        (Move("a/1.jpg", "a/x.jpg"),),
    )
    assert (second.number, second.command) == (2, "clean")
    assert began <= first.time <= second.time <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_a_vanished_file_is_reported(data: Path) -> None:
    failures = operations.apply(data, state_folder(data), "clean", [Move("a/9.jpg", "a/10.jpg")])
    assert failures == [Failure(Move("a/9.jpg", "a/10.jpg"), "the file is no longer there")]


@pytest.mark.parametrize("step", range(1, 30))
@pytest.mark.parametrize("act", ["apply", "undo"])
def test_a_kill_at_any_system_call_loses_nothing(data: Path, step: int, act: str) -> None:
    """A child process kills itself before its step-th change to the disk; the next command finishes what it began."""
    before, state = tree(data), state_folder(data)
    if act == "undo":
        operations.apply(data, state, "clean", MOVES)
    child = f"""
import os, signal
from pathlib import Path
from imgclf.core.files import operations
from imgclf.core.files.undo import undo_operations
from imgclf.core.files.plans import Move
steps = 0
def counted(name):
    real = getattr(os, name)
    def call(*arguments, **options):
        global steps
        steps += 1
        if steps == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(os, name, call)
for name in ("link", "unlink", "replace", "rename", "mkdir", "rmdir", "fsync"):
    counted(name)
data = Path({str(data)!r})
moves = [Move(*pair) for pair in {[(move.source, move.target) for move in MOVES]!r}]
{"operations.apply(data, data / '.imgclf', 'clean', moves)" if act == "apply" else "undo_operations(data, data / '.imgclf')"}
"""
    done = subprocess.run([sys.executable, "-c", child], timeout=60, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    everything = {path.read_bytes() for path in data.rglob("*.jpg")}
    assert everything == set(before.values()), "a file is gone"
    operations.recover(data, state)
    if (state / "journal").exists():
        assert all(name.endswith((".done.json", ".undone.json")) for name in plan_names(state) if not name.startswith("."))
    undo_operations(data, state)
    assert tree(data) == before


def test_recover_says_what_it_finished(data: Path) -> None:
    state = state_folder(data)
    plan(data, "doing", *MOVES)
    (data / MOVES[0].source).rename(write(state / "quarantine/0001/a/1.jpg", b""))  # the first move was made
    assert operations.recover(data, state, foreign=True) == [
        "files that an interrupted clean had moved: 1; they stay moved, and --undo takes them back"
    ]
    assert tree(data) == {"a/2.jpg": b"a/2.jpg", "b/1.jpg": b"b/1.jpg"}, "moves that were only planned are dropped"
    assert operations.recover(data, state) == []
    made, failed = undo_operations(data, state)
    assert ([move.target for move in made], failed) == (["a/1.jpg"], [])


def test_a_file_put_back_after_a_kill_does_not_orphan_the_one_in_quarantine(data: Path) -> None:
    """The first move was made, the command killed, and the user put a new image where the old one was."""
    state = state_folder(data)
    plan(data, "doing", *MOVES)
    (data / MOVES[0].source).rename(write(state / "quarantine/0001/a/1.jpg", b""))
    write(data / "a/1.jpg", b"new")
    operations.recover(data, state, foreign=True)
    _made, failed = undo_operations(data, state)
    assert [failure.reason for failure in failed] == ["1.jpg exists already; move that file and undo again"]
    assert (data / "a/1.jpg").read_bytes() == b"new"
    (data / "a/1.jpg").unlink()
    assert undo_operations(data, state)[1] == []
    assert (data / "a/1.jpg").read_bytes() == b"a/1.jpg"


def test_another_file_in_its_place_is_not_the_one_that_was_lost(data: Path) -> None:
    """What was moved is gone from quarantine, and a new file has its old name: nothing is back, and it is said so."""
    state = state_folder(data)
    operations.apply(data, state, "clean", MOVES[:1])
    write(data / "a/1.jpg", b"new one")
    (state / "quarantine/0001/a/1.jpg").unlink()
    made, failed = undo_operations(data, state)
    assert (made, [failure.reason for failure in failed]) == ([], ["the file is no longer there"])
    assert tree(data)["a/1.jpg"] == b"new one"


def test_a_file_that_its_user_put_back_is_back(data: Path) -> None:
    state = state_folder(data)
    operations.apply(data, state, "clean", MOVES[:1])
    (state / "quarantine/0001/a/1.jpg").rename(data / "a/1.jpg")
    made, failed = undo_operations(data, state)
    assert ([move.target for move in made], failed) == (["a/1.jpg"], [])


def test_a_class_named_like_the_quarantine_keeps_its_folder(data: Path) -> None:
    (data / "quarantine").mkdir()
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "quarantine/1.jpg")])
    undo_operations(data, state)
    assert (data / "quarantine").is_dir()
    assert tree(data)["a/1.jpg"] == b"a/1.jpg"


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"moves": ' + b"[" * 100_000, b'{"moves": [["a/1.jpg", "a/\\u0000.jpg"]]}',
     b'{"moves": [["a/1.jpg", 5, 6, 7]]}', b'{"moves": [["a/1.jpg", "../1.jpg"]]}', b'{"moves": [5]}'],
)  # fmt: skip
def test_a_damaged_plan_is_named(content: bytes, data: Path) -> None:
    state = state_folder(data)
    write(state / "journal" / "0001-clean.done.json", content)
    with pytest.raises(ImgclfError, match=r"0001-clean.done.json: this journal is damaged"):
        undo_operations(data, state)


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write(tmp_path / "a" / name, b"x")
    state = state_folder(tmp_path)
    operations.apply(tmp_path, state, "clean", [Move(f"a/{name}", ".imgclf/quarantine/0001/x")])
    undo_operations(tmp_path, state)
    assert tree(tmp_path) == {f"a/{name}": b"x"}


def test_links_are_moved_as_links(data: Path) -> None:
    (data / "a/alive.jpg").symlink_to("1.jpg")
    (data / "a/link.jpg").symlink_to("missing.jpg")
    state = state_folder(data)
    assert operations.apply(data, state, "clean", [Move("a/link.jpg", ".imgclf/quarantine/0001/a/link.jpg")]) == []
    assert os.readlink(state / "quarantine/0001/a/link.jpg") == "missing.jpg"
    assert operations.apply(data, state, "clean", [Move("a/alive.jpg", "a/moved.jpg")]) == []
    assert os.readlink(data / "a/moved.jpg") == "1.jpg"


def test_two_spellings_of_one_name_are_two_files(tmp_path: Path) -> None:
    """As an archive from macOS unpacked over one from Linux leaves them; each comes and goes under its own name."""
    nfc = "cats/caf\u00e9.jpg"
    nfd = unicodedata.normalize("NFD", nfc)
    data, state = tmp_path / "data", state_folder(write(tmp_path / "data" / nfc, b"1").parents[1])
    write(data / nfd, b"22")
    if len(os.listdir(data / "cats")) == 1:
        pytest.skip("this disk takes the two for one")
    moves = [Move(name, f".imgclf/quarantine/0001/{name}") for name in (nfc, nfd)]
    assert operations.apply(data, state, "clean", moves[:1]) == []
    assert undo_operations(data, state)[1] == []
    assert operations.apply(data, state, "clean", moves) == []
    (data / moves[1].target).unlink()  # what the user threw away does not come back as its neighbour
    made, failed = undo_operations(data, state)
    assert [move.target for move in made] == [nfc]
    assert [failure.reason for failure in failed] == ["another file is there now"]
    assert (data / nfc).read_bytes() == b"1"
    assert not (data / nfd).exists()


def test_names_outside_ascii_cost_no_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"猫/{number}の写真.jpg" for number in range(20)]
    for name in names:
        write(tmp_path / name, name.encode())
    state = state_folder(tmp_path)
    listed: list[object] = []
    listing = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *folder: listed.append(folder) or listing(*folder))
    assert operations.apply(tmp_path, state, "clean", [Move(name, f".imgclf/quarantine/0001/{name}") for name in names]) == []
    assert undo_operations(tmp_path, state)[1] == []
    assert len(listed) < len(names)

"""Plans of moves: which moves a journal may contain, and which file an undo takes for the one that was moved."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import tree, write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import journal, operations, plans, undo
from imgclf.core.files.plans import Failure, Move
from imgclf.core.files.state_folder import state_folder
from imgclf.core.files.undo import undo_operations

MARK = "5 6 7"
QUARANTINE = ".imgclf/quarantine/0001"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        write(tmp_path / "data" / name, name.encode())
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a/1.jpg", "a/2.jpg"), ("1.jpg", "b/c/1.jpg"), ("a/1.jpg", f"{QUARANTINE}/a/1.jpg"),
        ("a/1.jpg", f"{QUARANTINE}/1.jpg"),
        ("/photos/1.jpg", "cats/1.jpg"), ("/photos/.1.jpg", "cats/.1.jpg"), ("/home/me/.photos/1.jpg", "cats/1.jpg"),
    ],
)  # fmt: skip
def test_moves_that_imgclf_makes_are_accepted(source: str, target: str) -> None:
    plans.check(Move(source, target, MARK))
    plans.check(Move(source, target, "5 6 -7"))  # a file from before 1970


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a/1.jpg", "a/1.jpg", "moves to itself"),
        ("a/1.jpg", ".imgclf/quarantine/1.jpg", "no place of an image"),
        ("a/1.jpg", ".imgclf/other/0001/1.jpg", "no place of an image"),
        ("a/1.jpg", f"{QUARANTINE}/.git/hooks", "no place of an image"),
        ("a/1.jpg", f"{QUARANTINE}/.hook", "no place of an image"),
        (f"{QUARANTINE}/a/1.jpg", "a/1.jpg", "no place of an image"),
        (f"{QUARANTINE}/a/1.jpg", f"{QUARANTINE}/a/2.jpg", "no place of an image"),
        ("a/1.jpg", "a/.1.jpg", "no place of an image"),
        ("/photos/1.jpg", ".git/1.jpg", "no place of an image"),
        ("/photos//1.jpg", "cats/1.jpg", "is not a normalized path"),
        ("/photos/./1.jpg", "cats/1.jpg", "is not a normalized path"),
        ("/photos/../1.jpg", "cats/1.jpg", "is not a normalized path"),
        ("/photos/1\0.jpg", "cats/1.jpg", "is not the name of a file"),
        ("a/../1.jpg", "a/1.jpg", "is not the name of a file"),
    ],
)
def test_moves_that_imgclf_never_makes_are_refused(source: str, target: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plans.check(Move(source, target, MARK))


@pytest.mark.parametrize("mark", ["", "5 6", "5 6 7 8", "5 6 7x", "-5 6 7", "5 -6 7", " 5 6 7", "5  6 7", "5 6 7\n", "a b c"])
def test_a_mark_has_three_numbers(mark: str) -> None:
    with pytest.raises(ValueError, match="has no mark of its file"):
        plans.check(Move("a/1.jpg", "a/2.jpg", mark))


def test_which_file_is_the_one_that_was_moved(tmp_path: Path) -> None:
    """Within the folder the inode or size and time decide. Outside, size and time decide; in hidden places also the inode."""
    status = os.stat(write(tmp_path / "1.jpg", b"x"))
    inode, size, at = status.st_ino, status.st_size, status.st_mtime_ns
    same, copied, edited = f"{inode} {size} {at}", f"{inode + 1} {size} {at}", f"{inode} {size + 1} {at}"
    touched, other = f"{inode} {size} {at + 1}", f"{inode + 1} {size + 1} {at}"

    def accepted(source: str, is_own: bool) -> list[str]:
        marks = {"same": same, "copied": copied, "edited": edited, "touched": touched, "other": other}
        moves = {name: Move(source, "a/1.jpg", mark) for name, mark in marks.items()}
        return [name for name, move in moves.items() if plans.is_moved_file(status, move, is_own=is_own)]

    for is_own in (True, False):
        assert accepted("b/1.jpg", is_own) == ["same", "copied", "edited", "touched"]
        assert accepted("/photos/1.jpg", is_own) == ["same", "copied"]
    for hidden in ("/photos/.1.jpg", "/home/.photos/1.jpg"):
        assert accepted(hidden, True) == ["same"]
        assert accepted(hidden, False) == []


def test_names_of_plans() -> None:
    assert plans.command_of("0012-clean--apply.done.json") == "clean --apply"
    assert plans.number_of("0012-clean--apply.done.json") == 12
    for name, clean, predict in (
        ("1-clean.done.json", True, False), ("1-clean--apply.done.json", True, False), ("1-predict.done.json", False, True),
    ):  # fmt: skip
        assert (plans.is_of(name, "clean"), plans.is_of(name, "predict")) == (clean, predict)
    good = ["1-clean.doing.json", f"{'9' * 15}-clean--apply.undone.json", "0001-predict.undoing.json", "0001-predict.done.json"]
    bad = [f"{'9' * 16}-clean.done.json", "1-Clean.done.json", "1-clean.other.json", "-clean.done.json", ".1-clean.done.json"]
    assert [name for name in good + bad if plans.PLAN.fullmatch(name)] == good


# -- files on disk ------------------------------------------------------------------------------------------------------------


def test_a_file_from_before_1970_comes_back(data: Path) -> None:
    state = state_folder(data)
    os.utime(data / "a/1.jpg", ns=(-5_000_000_000, -5_000_000_000))
    assert operations.apply(data, state, "clean", [Move("a/1.jpg", "a/9.jpg")]) == []
    assert [move.target for move in undo_operations(data, state)[0]] == ["a/1.jpg"]


def test_an_undo_takes_the_moves_of_one_operation_back_in_reverse_order(data: Path) -> None:
    """A name that the first move frees is the target of the second one."""
    before, state = tree(data), state_folder(data)
    moves = [Move("a/1.jpg", "a/9.jpg"), Move("a/2.jpg", "a/1.jpg"), Move("b/1.jpg", "a/2.jpg")]
    assert operations.apply(data, state, "clean", moves) == []
    assert tree(data) == {"a/1.jpg": b"a/2.jpg", "a/2.jpg": b"b/1.jpg", "a/9.jpg": b"a/1.jpg"}
    assert undo_operations(data, state)[1] == []
    assert tree(data) == before


def test_a_file_that_a_backup_restored_goes_back(data: Path) -> None:
    """It has another inode, and the size and time of the file that was moved."""
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/9.jpg")])
    shutil.copy2(data / "a/9.jpg", data / "copy")
    os.replace(data / "copy", data / "a/9.jpg")
    assert [move.target for move in undo_operations(data, state)[0]] == ["a/1.jpg"]


def test_a_file_that_was_replaced_in_quarantine_goes_back(data: Path) -> None:
    """An editor saves an image there as a new file: it is still the user's image."""
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", f"{QUARANTINE}/a/1.jpg")])
    os.replace(write(data / "new", b"saved by an editor"), data / QUARANTINE / "a/1.jpg")
    assert undo_operations(data, state)[1] == []
    assert (data / "a/1.jpg").read_bytes() == b"saved by an editor"
    assert not (state / "quarantine").exists()


def test_an_undo_by_number_leaves_later_operations_alone(data: Path) -> None:
    state = state_folder(data)
    for number in (1, 2):
        operations.apply(data, state, "clean", [Move(f"a/{number}.jpg", f"b/moved {number}.jpg")])
    assert [move.target for move in undo_operations(data, state, 1)[0]] == ["a/1.jpg"]
    assert [(one.number, one.state) for one in operations.history(data, state)] == [(1, "undone"), (2, "done")]


def test_an_earlier_operation_of_another_file_is_not_to_be_undone_first(data: Path) -> None:
    """The first operation moved away what had the name before; undoing it would not help."""
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/9.jpg")])
    operations.apply(data, state, "clean", [Move("b/1.jpg", "a/1.jpg")])
    write(data / "b/1.jpg", b"new")
    _made, failed = undo_operations(data, state, 2)
    assert [failure.reason for failure in failed] == ["1.jpg exists already; move that file and undo again"]


def test_only_moves_that_failed_stay_in_the_plan(data: Path) -> None:
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/8.jpg"), Move("a/2.jpg", "a/9.jpg")])
    write(data / "a/1.jpg", b"new")
    made, failed = undo_operations(data, state)
    assert made == [Move("a/9.jpg", "a/2.jpg")]
    assert failed == [Failure(Move("a/8.jpg", "a/1.jpg"), "1.jpg exists already; move that file and undo again")]
    (operation,) = operations.history(data, state)
    assert (operation.state, operation.moves) == ("done", (Move("a/1.jpg", "a/8.jpg"),))


def test_a_plan_that_could_not_be_read_back_is_not_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of the reader: nothing moves without a plan that an undo can read."""
    state, before = state_folder(data), tree(data)
    moves = [Move("a/1.jpg", "a/9.jpg")]
    operations.apply(data, state, "clean", moves)
    size = (state / "journal/0001-clean.done.json").stat().st_size
    undo_operations(data, state)
    monkeypatch.setattr(journal, "_MAX_BYTES", size - 1)
    with pytest.raises(ImgclfError, match="1 files are too many to move at once"):
        operations.apply(data, state, "clean", moves)
    assert tree(data) == before
    monkeypatch.setattr(journal, "_MAX_BYTES", size)
    assert operations.apply(data, state, "clean", moves) == []
    assert undo_operations(data, state)[1] == []


def test_a_plan_of_an_unknown_kind_is_damaged(data: Path) -> None:
    state = state_folder(data)
    operations.apply(data, state, "clean", [Move("a/1.jpg", "a/9.jpg")])
    plan = state / "journal/0001-clean.done.json"
    plan.write_text(plan.read_text().replace('"how": "move"', '"how": "copy"'))
    with pytest.raises(ImgclfError, match=r"this journal is damaged \('copy'\)"):
        undo_operations(data, state)


@pytest.mark.parametrize(("count", "named"), [(2, "/p/0, /p/1"), (3, "/p/0, /p/1, /p/2"), (4, "/p/0, /p/1, /p/2, ...")])
def test_a_plan_of_someone_else_names_three_of_its_folders(count: int, named: str) -> None:
    moves = tuple(Move(f"/p/{number}/{name}.jpg", f"a/{number}{name}.jpg", MARK) for number in range(count) for name in "xy")
    plan = plans.Plan("0001-predict.done.json", "move", moves, "", "eve", False)
    words = f"made by eve; it would put files back into {named} ({2 * count}); if you trust it, add --recover"
    assert undo._waits(plan) == words

"""SQLite files: closed however a block ends, set aside only when damaged, found under any name."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write

from imgclf.base import database
from imgclf.base.database import Damaged, Database
from imgclf.base.errors import ImgclfError

TABLES = database.Tables("CREATE TABLE words (word TEXT)", 3)


def is_open(folder: Path) -> list[str]:
    """The files of a folder that this process holds open."""
    names = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if number_is_open(number)]
    return [name for name in names if name.startswith(str(folder))]


def number_is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def keep(db: Database, word: str) -> None:
    with db.writing():
        db.put("INSERT INTO words VALUES (?)", [(word,)])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "kept" / "a.sqlite"
    with database.opened(path, TABLES) as db:
        keep(db, "first")
    yield path
    if os.path.isdir("/proc/self/fd"):
        assert is_open(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["a b.sqlite", "a?mode=ro#%41.sqlite", "ä 日本 🙂.sqlite", os.fsdecode(b"caf\xe9.sqlite"), "-a'\"[*].sqlite", "x" * 200],
)
def test_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "folder" / name, Path(name)):
        with database.opened(path, TABLES) as db:
            keep(db, "word")
        with database.opened(path, TABLES) as db:
            assert list(db.rows("SELECT word FROM words")) == [("word",)]
    assert sorted(os.listdir(tmp_path)) == sorted(["folder", name])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError, sqlite3.ProgrammingError, GeneratorExit])
def test_an_error_takes_back_what_is_not_committed_and_closes(error: type[BaseException], file: Path) -> None:
    with pytest.raises(error), database.opened(file, TABLES) as db, db.writing():
        db.put("INSERT INTO words VALUES (?)", [("lost",)])
        raise error
    with database.begun(file, TABLES, lambda db: list(db.rows("SELECT word FROM words"))) as words:
        assert words == [("first",)]
    with pytest.raises(error), database.begun(file, TABLES, lambda db: keep(db, "second")):
        raise error
    assert list(file.parent.iterdir()) == [file]


def test_rows_that_nobody_reads_to_the_end_keep_nothing_open(file: Path) -> None:
    with database.opened(file, TABLES) as db:
        keep(db, "second")
        rows = db.rows("SELECT word FROM words ORDER BY word")
        assert next(rows) == ("first",)
        late = db.rows("SELECT word FROM words")
        next(late)
    if os.path.isdir("/proc/self/fd"):
        assert is_open(file.parent) == []
    with pytest.raises(sqlite3.ProgrammingError):
        next(rows)
    late.close()  # type: ignore[attr-defined]


def test_two_commands_make_the_tables_once(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with database.opened(path, TABLES) as one, database.opened(path, TABLES) as other:
        keep(one, "one")
        keep(other, "other")
        assert one.one("SELECT count(*) FROM words") == (2,)


def test_the_journal_of_a_damaged_file_goes_with_it(file: Path) -> None:
    """Else SQLite would play it back into the new one."""
    with pytest.raises(Damaged), database.opened(file, TABLES) as db:
        write(file.with_name("a.sqlite-journal"), b"journal")
        raise db.damaged("so it seems")
    assert sorted(path.name for path in file.parent.iterdir()) == ["a-1.sqlite", "a-1.sqlite-journal"]
    with database.opened(file, TABLES) as db:
        assert list(db.rows("SELECT word FROM words")) == []


def test_the_new_file_of_another_command_is_not_set_aside(file: Path) -> None:
    """Both found the damage; one was faster."""
    with pytest.raises(Damaged, match="renamed by another command"), database.opened(file, TABLES) as db:
        os.replace(file, file.with_name("a-1.sqlite"))
        with database.opened(file, TABLES) as other:
            keep(other, "theirs")
        raise db.damaged("so it seems")
    with database.opened(file, TABLES) as db:
        assert list(db.rows("SELECT word FROM words")) == [("theirs",)]


def test_damage_of_another_file_is_not_its_own(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with pytest.raises(Damaged, match=r"other.sqlite: damaged"), database.opened(file, TABLES) as db:
        keep(db, "second")
        with database.opened(other, TABLES) as second:
            raise second.damaged("so it seems")
    assert list(file.parent.iterdir()) == [file]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "other-1.sqlite"]


@pytest.mark.parametrize(
    ("what", "words"),
    [("a folder", "cannot be opened: no regular file"), ("a pipe", "no regular file"), ("a file above", "File exists")],
)
def test_what_is_no_file_is_no_damage(what: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path = write(tmp_path / "file", b"mine") / "a.sqlite"
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ImgclfError, OSError), match=words), contextlib.ExitStack() as stack:
        stack.enter_context(database.opened(path, TABLES))
    assert sorted(tmp_path.iterdir()) == before

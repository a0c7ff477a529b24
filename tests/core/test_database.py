"""SQLite files: closed however a block ends, set aside only when damaged, found under any name."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write

from imgclf.core import database
from imgclf.core.database import Database
from imgclf.core.database_files import Damaged
from imgclf.core.errors import ImgclfError

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
    with database.running(file, TABLES, lambda db: list(db.rows("SELECT word FROM words"))) as words:
        assert words == [("first",)]
    with pytest.raises(error), database.running(file, TABLES, lambda db: keep(db, "second")):
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
    [("a folder", "cannot be opened: not a regular file"), ("a pipe", "not a regular file"), ("a file above", "File exists")],
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


# -- files that someone else made -------------------------------------------------------------------------------------------


def changed(file: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.executescript(script)


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


@pytest.mark.parametrize(
    "script",
    [
        f"ALTER TABLE words RENAME TO other; CREATE VIEW words AS {ENDLESS} SELECT x AS word FROM c",
        f"CREATE TRIGGER t AFTER INSERT ON words BEGIN INSERT INTO words {ENDLESS} SELECT zeroblob(100000) FROM c; END",
        "CREATE INDEX i ON words (word)",
        "PRAGMA journal_mode = wal",
        "CREATE TABLE more (a)",
        "".join(f"CREATE TABLE t{number} (a);" for number in range(3000)),
        "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = sql || printf('%*s', 70000000, ' ')",
    ],
    ids=["view", "trigger", "index", "wal", "table", "tables", "schema"],
)
def test_other_tables_are_damage(script: str, file: Path) -> None:
    """Nothing of them is run: a view without end, a trigger that fills the disk."""
    changed(file, script)
    with pytest.raises(Damaged), database.opened(file, TABLES) as db:
        keep(db, "x")
    with database.opened(file, TABLES) as db:
        assert list(db.rows("SELECT word FROM words")) == []


def test_an_unknown_format_is_damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[44:48] = b"\0\0\0\x09"
    file.write_bytes(content)
    with pytest.raises(Damaged, match="unsupported file format"), contextlib.ExitStack() as stack:
        stack.enter_context(database.opened(file, TABLES))


def test_a_damaged_name_that_is_not_text_is_damage(file: Path) -> None:
    """Python cannot decode what SQLite says of it."""
    file.write_bytes(
        file.read_bytes()
        .replace(b"CREATE TABLE words", b"CREATE TABLE w\xf6\xf6ds")
        .replace(b"wordswords", b"w\xf6\xf6\xf6swords")
    )
    with pytest.raises(Damaged), contextlib.ExitStack() as stack:
        stack.enter_context(database.opened(file, TABLES))


def test_a_value_of_a_gigabyte_is_damage(file: Path) -> None:
    changed(file, f"INSERT INTO words VALUES (zeroblob({database.LONGEST + 1}))")
    with pytest.raises(Damaged, match="too big"), database.opened(file, TABLES) as db:
        list(db.rows("SELECT word FROM words"))


def test_a_journal_that_names_another_file_is_not_played_back(file: Path, tmp_path: Path) -> None:
    """SQLite would delete that file, as it does with the journal of a transaction over several files."""
    thesis = write(tmp_path / "thesis.docx", b"words")
    name = os.fsencode(thesis)
    total = sum(name) & 0xFFFFFFFF
    page = 4096
    head = database._SUPER_JOURNAL + b"".join(number.to_bytes(4) for number in (0, 7, 2, 512, page))
    tail = ((1 << 30) // page + 1).to_bytes(4) + name + len(name).to_bytes(4) + total.to_bytes(4) + database._SUPER_JOURNAL
    write(file.with_name("a.sqlite-journal"), head.ljust(512, b"\0") + tail)
    with pytest.raises(Damaged, match="its journal names another file"), contextlib.ExitStack() as stack:
        stack.enter_context(database.opened(file, TABLES))
    assert thesis.read_bytes() == b"words"
    assert sorted(path.name for path in file.parent.iterdir()) == ["a-1.sqlite", "a-1.sqlite-journal"]
    with contextlib.closing(sqlite3.connect(file.parent / "a-1.sqlite")) as db:
        # The journal was moved with its file; played back under that name it does what is feared here.
        db.execute("SELECT * FROM sqlite_master").fetchall()
    assert not thesis.exists()


KEYED = database.Tables("CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID", 3)


def test_pages_that_lead_back_to_each_other_are_damage(tmp_path: Path) -> None:
    """With 40 pages that each name the next page many times there are more rows than anybody can wait for."""
    path = tmp_path / "a.sqlite"
    with database.opened(path, KEYED) as db, db.writing():
        db.put("INSERT INTO words VALUES (?)", ((f"{number:06d}" * 20,) for number in range(2000)))
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18])
    inner = [at for at in range(size, len(content), size) if content[at] == 2]  # pages of an index with pages below
    at = max(inner, key=lambda at: content[at + 3 : at + 5])
    cells = int.from_bytes(content[at + 3 : at + 5])
    assert cells > 1
    places = [at + int.from_bytes(content[at + 12 + 2 * cell : at + 14 + 2 * cell]) for cell in range(cells)]
    for place in places:
        content[place : place + 4] = content[places[0] : places[0] + 4]
    path.write_bytes(content)
    with pytest.raises(Damaged, match="not in order"), database.opened(path, KEYED) as db:
        list(db.rows("SELECT word FROM words ORDER BY word", key=1))


def test_a_statement_without_end_is_stopped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Damaged, match="interrupted"), database.opened(file, TABLES) as db:
        db.one(f"{ENDLESS} SELECT count(*) FROM c")
    with database.opened(file, TABLES) as db, db.writing():  # a large file may take its time, and so may many rows
        monkeypatch.setattr(Database, "_size", lambda _self: 1 << 40)
        assert db.one(f"{ENDLESS} SELECT count(*) FROM (SELECT x FROM c LIMIT 2000000)") == (2_000_000,)
        monkeypatch.setattr(Database, "_size", lambda _self: 0)
        db.put("INSERT INTO words VALUES (?)", ((str(number),) for number in range(200_000)))
        assert sum(1 for _row in db.rows("SELECT word FROM words")) == 200_000


def test_settings_and_limits_of_an_open_file(file: Path) -> None:
    """No other file may be attached; a value of more than LONGEST bytes is none of ours."""
    with database.opened(file, TABLES) as db:
        for name, expected in (("synchronous", 0), ("trusted_schema", 0), ("cell_size_check", 1), ("mmap_size", 0)):
            assert db.one(f"PRAGMA {name}") in ((expected,), None)
        assert db.one("PRAGMA user_version") == (3,)
        with pytest.raises(sqlite3.OperationalError, match="too many attached databases"):
            db.one("ATTACH ':memory:' AS other")
        assert db._db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) == database.LONGEST
        assert db._size() == os.stat(file).st_size
        file.rename(file.with_name("aside"))
        assert db._size() == 1 << 40
        file.with_name("aside").rename(file)


def test_rows_come_in_the_order_that_was_asked_for(file: Path) -> None:
    with database.opened(file, TABLES) as db:
        for word in ("second", "third"):
            keep(db, word)
        assert list(db.rows("SELECT word FROM words ORDER BY word", key=1)) == [("first",), ("second",), ("third",)]
        assert db.one("SELECT count(*) FROM words WHERE word > ?", ("first",)) == (2,)
        assert db.one("SELECT word FROM words WHERE word = 'none'") is None
    for sql in ("SELECT word FROM words ORDER BY word DESC", "SELECT 1 FROM words", "SELECT iif(rowid > 1, 'x', 1) FROM words"):
        with pytest.raises(Damaged, match="rows that are not in order"), database.opened(file, TABLES) as db:
            list(db.rows(sql, key=1))
        file.with_name("a-1.sqlite").rename(file)


def test_errors_that_a_user_can_mend_and_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(sqlite3.Error):
        sqlite_errorcode = 0

    def told(code: int) -> str:
        error = Failing("words of SQLite")
        error.sqlite_errorcode = code
        with pytest.raises(ImgclfError) as caught, database.opened(file, TABLES) as db, db._translated_errors():
            raise error
        return str(caught.value)

    monkeypatch.setattr(database.owners, "closed", lambda path: f"{path} is closed")
    extended = sqlite3.SQLITE_IOERR | 13 << 8
    remedy = "check whether it is full or failing, then run again (words of SQLite)"
    assert told(extended) == f"{file}: the disk reports an error; {remedy}"
    assert told(sqlite3.SQLITE_FULL).startswith(f"{file}: the disk is full; ")
    assert told(sqlite3.SQLITE_BUSY) == told(sqlite3.SQLITE_LOCKED)
    assert told(sqlite3.SQLITE_READONLY) == told(sqlite3.SQLITE_CANTOPEN) == f"{file} is closed"
    monkeypatch.setattr(database.owners, "closed", lambda _path: "")
    assert told(sqlite3.SQLITE_READONLY).startswith(f"{file}: no write permission; ask its owner for it and run again")
    with pytest.raises(KeyboardInterrupt), database.opened(file, TABLES) as db, db._translated_errors():
        error = Failing("interrupted")
        error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
        raise error
    with pytest.raises(Failing), database.opened(file, TABLES) as db, db._translated_errors():
        raise Failing("a bug")


def test_damage_travels_between_processes(file: Path) -> None:
    import pickle

    damage = Damaged(file, (1, 2), "why")
    again = pickle.loads(pickle.dumps(damage))
    assert (again.path, again.identity, again.why, str(again)) == (file, (1, 2), "why", str(damage))
    assert str(damage) == f"{file}: damaged (why); run the command again to rebuild it; old file: "


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_links_beside_a_file_are_not_followed(ending: str, tmp_path: Path) -> None:
    """Neither is the file itself written through one, nor what SQLite keeps beside it."""
    other = write(tmp_path / "other", b"mine")
    path = tmp_path / "kept" / "a.sqlite"
    makers = {"is a link": lambda place: place.symlink_to(other), "has several names": lambda place: os.link(other, place)}
    for words, make in makers.items():
        path.parent.mkdir(exist_ok=True)
        make(path.with_name(path.name + ending))
        with pytest.raises(Damaged, match=rf"a\.sqlite{ending} {words}"), database.opened(path, TABLES):
            pass
        assert other.read_bytes() == b"mine"
        assert not os.path.lexists(path.with_name(path.name + ending))
        with database.opened(path, TABLES) as db:
            keep(db, "word")
        for file in path.parent.iterdir():
            file.unlink()


def test_damage_of_another_file_is_handed_on(file: Path, tmp_path: Path) -> None:
    begun: list[int] = []

    def begin(db: Database) -> int:
        begun.append(1)
        raise Damaged(tmp_path / "another", (0, 0), "why")

    with pytest.raises(Damaged, match="another"), database.running(file, TABLES, begin):
        pass
    assert begun == [1]
    assert [path.name for path in file.parent.iterdir()] == ["a.sqlite"]

"""SQLite files that store expensive results. They are opened only here, and damage is told apart from other errors.

Only a file that is proven damaged is replaced; it stays beside the new one under a numbered name. Proof of damage: SQLite
reports it (_DAMAGE), the tables differ from the expected ones, a value cannot be decoded, or a statement takes more steps than
a file of this size can need. Any other error (in use, disk full, no permission, a bug) leaves the file as it is. Other versions
of imgclf use other file names.

A file may have been made by someone else. Its tables are compared before anything is read, so that no trigger or view is run.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from imgclf.core.database_files import Damaged, own_file, warn
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained, owners

T = TypeVar("T")
# The last four: keys that imgclf never gives twice, values that it never writes, and what `_count` stops.
_DAMAGE = (
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
LONGEST = 1 << 26  # bytes of a value, and of a row
_STEPS = 1_000_000  # of SQLite's machine, between two calls of `_count`
_STEPS_PER_BYTE = 4  # a row of ten bytes takes some 20 steps to read
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_SETTINGS = (
    "PRAGMA synchronous = OFF",  # not waiting for the disk is safe if a process is killed; a power failure's damage is detected
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",  # a file that is cut off meanwhile must not end the process
)
_LAYOUT = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "in use by another command; wait for it to finish and run again",
    sqlite3.SQLITE_LOCKED: "in use by another command; wait for it to finish and run again",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run again",
    sqlite3.SQLITE_READONLY: "no write permission; ask its owner for it and run again",
    sqlite3.SQLITE_PERM: "no write permission; ask its owner for it and run again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it exists and that you may write to it and its folder; run again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check whether it is full or failing, then run again",
}
_NOT_OPEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)


@dataclasses.dataclass(frozen=True)
class Tables:
    """Tables of a file, as SQL, and the version of their content."""

    sql: str
    version: int


class Database:
    """An open file. Raises Damaged, or ImgclfError if the file cannot be used for another reason."""

    def __init__(self, path: Path, tables: Tables) -> None:
        self.path = path
        self._identity = own_file(path, make=True) or (0, 0)
        self._calls, self._endless = 0, False
        self._check_journal()
        self._cursors: set[sqlite3.Cursor] = set()
        with self._told():
            # Another command may lock the file for a while. Only `writing` begins transactions.
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
        try:
            # SQLite takes a path, so what lies there is compared before and after. None: another command took the file up.
            if own_file(path, make=False) not in (None, self._identity):
                raise ImgclfError(f"{path}: replaced by another program; run again")
            self._db.text_factory = self._text
            self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            self._db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            self._db.set_progress_handler(self._count, _STEPS)
            self._check(tables)
        except BaseException:
            self.close()
            raise

    def _check_journal(self) -> None:
        """Raise Damaged if what an interrupted transaction left names another file, which SQLite would delete after it.

        That is the journal of a transaction over several files. imgclf makes none.
        """
        with contained.at(self.path.parent) as folder, contextlib.suppress(FileNotFoundError):
            descriptor = folder.open(f"{self.path.name}-journal")
            with open(descriptor, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - len(_SUPER_JOURNAL)))
                if file.read() == _SUPER_JOURNAL:
                    raise self.damaged("its journal names another file")

    def _count(self) -> bool:
        """Whether to interrupt a statement: a small file can be made whose pages are met again and again, without end."""
        self._calls += 1
        self._endless = self._calls > 10 and self._calls * _STEPS > _STEPS_PER_BYTE * self._size()
        return self._endless

    def _size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError:  # set aside by another command; the open file is still read
            return 1 << 40

    def _check(self, tables: Tables) -> None:
        try:
            self._compare(tables)
        except sqlite3.OperationalError as error:  # such as an unsupported format
            raise self.damaged(str(error)) from error

    def _compare(self, tables: Tables) -> None:
        for setting in _SETTINGS:
            self.one(setting)
        if self.one("PRAGMA journal_mode") == ("wal",):
            raise self.damaged("in a mode that imgclf does not use")
        if not self._layout():
            with self.writing():
                if not self._layout():  # another command may have created them meanwhile
                    with self._told():
                        for statement in (*_statements(tables), f"PRAGMA user_version = {tables.version}"):
                            self._db.execute(statement)
        if self._layout(len(_expected(tables)) + 1) != _expected(tables) or self.one("PRAGMA user_version") != (
            tables.version,
        ):
            raise self.damaged("its tables differ from those of this version")

    def _layout(self, most: int = 1) -> list[Any]:
        with contextlib.closing(self.rows(_LAYOUT)) as rows:
            return list(itertools.islice(rows, most))

    def close(self) -> None:
        """Close the file. Uncommitted changes are rolled back, unread rows are lost."""
        for cursor in list(self._cursors):  # open cursors would keep the file open
            self._let_go(cursor)
        self._db.close()

    def _let_go(self, cursor: sqlite3.Cursor) -> None:
        if cursor in self._cursors:
            self._cursors.remove(cursor)
            cursor.close()

    def rows(self, sql: str, values: Iterable[object] = (), *, key: int = 0) -> Generator[Any, None, None]:
        """The rows of a query, one by one. key: so many first columns must ascend, as the query asks.

        In a damaged file they may not, and then the same pages may be met again and again.
        """
        previous = None
        with self._told():
            self._calls = 0
            cursor = self._db.execute(sql, tuple(values))
            self._cursors.add(cursor)
            try:
                for row in cursor:
                    if key and not self._ascends(previous, row[:key]):
                        raise self.damaged("rows that are not in order")
                    previous = row[:key]
                    yield row
                    self._calls = 0
            finally:
                self._let_go(cursor)

    @staticmethod
    def _ascends(previous: Any, now: Any) -> bool:
        try:
            return previous is None or bool(previous < now)
        except TypeError:  # of another type than the one before
            return False

    def one(self, sql: str, values: Iterable[object] = ()) -> Any:
        """The first row of a query, or None."""
        self._calls = 0
        with self._told(), contextlib.closing(self._db.execute(sql, tuple(values))) as cursor:
            return cursor.fetchone()

    def put(self, sql: str, rows: Iterable[Any] = ((),)) -> None:
        """Run a statement that changes data, once per row of values. Call it inside `writing`."""
        with self._told():
            self._db.executemany(sql, self._each(rows)).close()

    def _each(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            self._calls = 0
            yield row

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that excludes other writers. It is rolled back if the block raises."""
        self._calls = 0
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._told():
                self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:  # SQLite may have rolled it back already
                    self._db.execute("ROLLBACK")
            raise

    def damaged(self, why: str) -> Damaged:
        """The error to raise for an impossible stored value."""
        return Damaged(self.path, self._identity, why)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self.damaged("text that is not UTF-8") from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Translate SQLite errors. Errors that are neither damage nor fixable by the user stay as they are: they are bugs."""
        try:
            yield
        except UnicodeDecodeError as error:  # of SQLite's message about a damaged name; other text comes by `_text`
            raise self.damaged("a name that is not UTF-8") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits are the extended code
            if code == sqlite3.SQLITE_INTERRUPT and not self._endless:  # Ctrl-C while `_count` ran, which Python takes so
                raise KeyboardInterrupt from error
            if code in _DAMAGE:
                raise self.damaged(str(error)) from error
            if code in _REMEDIES:
                closed = owners.closed(self.path) if code in _NOT_OPEN else ""
                raise ImgclfError(closed or f"{self.path}: {_REMEDIES[code]} ({error})") from error
            raise


def _statements(tables: Tables) -> list[str]:
    return [statement.strip() for statement in tables.sql.split(";") if statement.strip()]


@functools.cache
def _expected(tables: Tables) -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for statement in _statements(tables):
            db.execute(statement)
        return db.execute(_LAYOUT).fetchall()


@contextlib.contextmanager
def opened(path: Path, tables: Tables) -> Iterator[Database]:
    """Open the file, created with its folder if missing. If the block finds it damaged, rename it and raise Damaged."""
    try:
        with contextlib.closing(Database(path, tables)) as db:
            yield db
    except Damaged as damage:
        if damage.path == path:
            damage.set_aside()
        raise


@contextlib.contextmanager
def begun(path: Path, tables: Tables, begin: Callable[[Database], T]) -> Iterator[T]:
    """Open the file and yield the result of `begin`. The file stays open until the block ends.

    If `begin` finds it damaged, the file is renamed with a warning, and `begin` is called again with a new one.
    """
    with contextlib.ExitStack() as until_the_end:

        def attempt() -> T:
            with contextlib.ExitStack() as stack:
                result = begin(stack.enter_context(opened(path, tables)))
                until_the_end.push(stack.pop_all())
                return result

        try:
            result = attempt()
        except Damaged as damage:
            if damage.path != path:
                raise
            warn(damage)
            result = attempt()
        yield result

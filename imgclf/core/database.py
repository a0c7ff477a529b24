"""Open SQLite files that store expensive results. All of imgclf opens them here, and damage is distinguished from other errors.

Only a file that is proven damaged is replaced; it stays beside the new one under a numbered name. Proof of damage: SQLite
reports it (_DAMAGE), the tables differ from the expected ones, a value cannot be decoded, or a statement takes more steps than
a file of this size can need. Any other error (in use, disk full, no permission, a bug) leaves the file as it is. Other versions
of imgclf use other file names.

Someone else may have made a file. Its tables are compared before any row is read, so that no trigger or view runs.
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
# Errors that prove damage. The last four: duplicate keys and values, which imgclf never writes, and statements that
# `_interrupts` stops.
_DAMAGE = (
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
LONGEST = 1 << 26  # maximum bytes of a value, and of a row
_STEPS = 1_000_000  # steps of SQLite's virtual machine between two calls of `_interrupts`
_STEPS_PER_BYTE = 4  # steps allowed per byte of the file; reading a row of ten bytes takes about 20
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_SETTINGS = (
    "PRAGMA synchronous = OFF",  # safe if the process is killed; damage by a power failure is detected
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",  # a mapped file that another program truncates would crash the process
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
    """The tables of a file as SQL, and the version of their content."""

    sql: str
    version: int


class Database:
    """An open SQLite file. All methods raise Damaged, or ImgclfError if the file cannot be used for another reason."""

    def __init__(self, path: Path, tables: Tables) -> None:
        self.path = path
        self._identity = own_file(path, make=True) or (0, 0)
        self._calls, self._endless = 0, False
        self._check_journal()
        self._cursors: set[sqlite3.Cursor] = set()
        with self._translated_errors():
            # Wait up to 60 s for the lock of another command. Only `writing` begins transactions.
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
        try:
            # SQLite opens a path, so compare the file there before and after. None: another command merged and removed it.
            if own_file(path, make=False) not in (None, self._identity):
                raise ImgclfError(f"{path}: replaced by another program; run again")
            self._db.text_factory = self._text
            self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            self._db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            self._db.set_progress_handler(self._interrupts, _STEPS)
            self._check(tables)
        except BaseException:
            self.close()
            raise

    def _check_journal(self) -> None:
        """Raise Damaged if the journal of an interrupted transaction names another file: SQLite would delete that file.

        Only journals of transactions over several files do so, and imgclf makes none.
        """
        with contained.at(self.path.parent) as folder, contextlib.suppress(FileNotFoundError):
            descriptor = folder.open(f"{self.path.name}-journal")
            with open(descriptor, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - len(_SUPER_JOURNAL)))
                if file.read() == _SUPER_JOURNAL:
                    raise self.damaged("its journal names another file")

    def _interrupts(self) -> bool:
        """Return whether to interrupt a statement: a small file can be made in which SQLite reads the same pages for ever."""
        self._calls += 1
        self._endless = self._calls > 10 and self._calls * _STEPS > _STEPS_PER_BYTE * self._size()
        return self._endless

    def _size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError:  # another command has renamed it; the open file can still be read
            return 1 << 40

    def _check(self, tables: Tables) -> None:
        try:
            self._compare(tables)
        except sqlite3.OperationalError as error:  # for example an unsupported format
            raise self.damaged(str(error)) from error

    def _compare(self, tables: Tables) -> None:
        for setting in _SETTINGS:
            self.one(setting)
        if self.one("PRAGMA journal_mode") == ("wal",):
            raise self.damaged("in WAL mode, which imgclf does not use")
        if not self._layout():
            with self.writing():
                if not self._layout():  # another command may have created the tables in the meantime
                    with self._translated_errors():
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
            self._close_cursor(cursor)
        self._db.close()

    def _close_cursor(self, cursor: sqlite3.Cursor) -> None:
        if cursor in self._cursors:
            self._cursors.remove(cursor)
            cursor.close()

    def rows(self, sql: str, values: Iterable[object] = (), *, key: int = 0) -> Generator[Any, None, None]:
        """Yield the rows of a query.

        Args:
            key: Number of leading columns by which the query sorts the rows. Rows in another order raise Damaged: in a
                damaged file, SQLite could return the same rows for ever.
        """
        previous = None
        with self._translated_errors():
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
                self._close_cursor(cursor)

    @staticmethod
    def _ascends(previous: Any, now: Any) -> bool:
        try:
            return previous is None or bool(previous < now)
        except TypeError:  # the two keys have different types
            return False

    def one(self, sql: str, values: Iterable[object] = ()) -> Any:
        """Return the first row of a query, or None."""
        self._calls = 0
        with self._translated_errors(), contextlib.closing(self._db.execute(sql, tuple(values))) as cursor:
            return cursor.fetchone()

    def put(self, sql: str, rows: Iterable[Any] = ((),)) -> None:
        """Run a statement that changes data, once per row of values. Call it inside `writing`."""
        with self._translated_errors():
            self._db.executemany(sql, self._each(rows)).close()

    def _each(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            self._calls = 0
            yield row

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block in a transaction that excludes other writers. It is rolled back if the block raises."""
        self._calls = 0
        with self._translated_errors():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._translated_errors():
                self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:  # SQLite may have rolled it back already
                    self._db.execute("ROLLBACK")
            raise

    def damaged(self, why: str) -> Damaged:
        """Return the error to raise for an impossible stored value."""
        return Damaged(self.path, self._identity, why)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self.damaged("text that is not UTF-8") from None

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate SQLite errors. Errors that are neither damage nor fixable by the user stay as they are: they are bugs."""
        try:
            yield
        except UnicodeDecodeError as error:  # in SQLite's message about a damaged name; `_text` decodes all other text
            raise self.damaged("a name that is not UTF-8") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits are the extended code
            if code == sqlite3.SQLITE_INTERRUPT and not self._endless:  # Python turns Ctrl-C in `_interrupts` into this error
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
    """Open the file; create it and its folder if missing. If the block finds it damaged, rename it and raise Damaged."""
    try:
        with contextlib.closing(Database(path, tables)) as db:
            yield db
    except Damaged as damage:
        if damage.path == path:
            damage.set_aside()
        raise


@contextlib.contextmanager
def running(path: Path, tables: Tables, use: Callable[[Database], T]) -> Iterator[T]:
    """Open the file and yield the result of `use`. The file stays open until the block ends.

    If `use` finds it damaged, the file is renamed with a warning, and `use` is called again with a new one.
    """
    with contextlib.ExitStack() as until_the_end:

        def attempt() -> T:
            with contextlib.ExitStack() as stack:
                result = use(stack.enter_context(opened(path, tables)))
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

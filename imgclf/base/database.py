"""SQLite files that keep what is costly to compute: opened and closed in one place, and told apart when they cannot be used.

Only a file that is proven damaged is replaced, and it stays beside the new one under a numbered name. Proof is what SQLite
finds in it (SQLITE_CORRUPT, SQLITE_NOTADB), tables that are not the expected ones, and values that cannot be decoded. All else
(in use, a full disk, no permission, a fault of ours) leaves the file as it is. Files of other versions have other names.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from imgclf.base import permissions
from imgclf.base.errors import ImgclfError
from imgclf.base.folders import numbered

T = TypeVar("T")
_log = logging.getLogger("imgclf")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
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


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of a file, as SQL, and the version of what is in them."""

    sql: str
    version: int


class Damaged(ImgclfError):
    """A file that is proven to be damaged. kept: the name under which it lies beside, once it is set aside."""

    def __init__(self, path: Path, identity: tuple[int, int], why: str) -> None:
        super().__init__(path, identity, why)
        self.path, self.identity, self.why, self.kept = path, identity, why, ""

    def __str__(self) -> str:
        return f"{self.path}: damaged ({self.why}); run the command again to rebuild it; old file: {self.kept}"

    def set_aside(self) -> None:
        """Rename the file, unless another command has done so and the name is that of a new one."""
        self.kept = "set aside by another command"
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self.identity:
                kept = numbered(self.path)
                os.replace(self.path, kept)
                self.kept = kept.name
                os.replace(f"{self.path}-journal", f"{kept}-journal")  # or SQLite would play it back into the new file


def warn(damage: Damaged) -> None:
    """Say in one line that a file was damaged, and go on without it."""
    _log.warning("%s: damaged (%s) and rebuilt; old file: %s", damage.path, damage.why, damage.kept)


class Database:
    """One open file. Raises Damaged, and ImgclfError where the file cannot be used for another reason."""

    def __init__(self, path: Path, tables: Tables) -> None:
        self.path = path
        permissions.make_folder(path.parent)
        permissions.create(path)  # SQLite itself would make one that others of a team cannot write
        status = os.stat(path)
        self._identity = status.st_dev, status.st_ino
        self._cursors: set[sqlite3.Cursor] = set()
        with self._told():
            # Another command may hold the file for a while. Transactions are begun by `writing` alone.
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
        try:
            self._db.text_factory = self._text
            with self._told():
                # A killed process does no harm without waiting for the disk; a power failure may, and then it shows as damage.
                self._db.execute("PRAGMA synchronous = OFF")
            self._check(tables)
        except BaseException:
            self.close()
            raise

    def _check(self, tables: Tables) -> None:
        if not self._layout():
            with self.writing():
                if not self._layout():  # nor has another command made them meanwhile
                    with self._told():
                        for statement in (*_statements(tables), f"PRAGMA user_version = {tables.version}"):
                            self._db.execute(statement)
        if self._layout() != _expected(tables) or self.one("PRAGMA user_version") != (tables.version,):
            raise self.damaged("its tables differ from those of this version")

    def _layout(self) -> list[Any]:
        return list(self.rows(_LAYOUT))

    def close(self) -> None:
        """Close the file; what is not committed is taken back, and rows that are not read yet are lost."""
        for cursor in list(self._cursors):  # SQLite would keep the file open for them
            self._let_go(cursor)
        self._db.close()

    def _let_go(self, cursor: sqlite3.Cursor) -> None:
        if cursor in self._cursors:
            self._cursors.remove(cursor)
            cursor.close()

    def rows(self, sql: str, values: Iterable[object] = ()) -> Iterator[Any]:
        """The rows of a query, one by one."""
        with self._told():
            cursor = self._db.execute(sql, tuple(values))
            self._cursors.add(cursor)
            try:
                for row in cursor:  # noqa: UP028  (`yield from` would close the cursor, perhaps after the file)
                    yield row
            finally:
                self._let_go(cursor)

    def one(self, sql: str, values: Iterable[object] = ()) -> Any:
        """The first row of a query, or None."""
        with self._told(), contextlib.closing(self._db.execute(sql, tuple(values))) as cursor:
            return cursor.fetchone()

    def put(self, sql: str, rows: Iterable[Any] = ((),)) -> None:
        """Carry out a statement that changes something, once for each row of values; within `writing`."""
        with self._told():
            self._db.executemany(sql, rows).close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction in which no other command writes; taken back when the block ends with an error."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._told():
                self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:  # SQLite may have taken it back by itself
                    self._db.execute("ROLLBACK")
            raise

    def damaged(self, why: str) -> Damaged:
        """The error to raise for a stored value that cannot be what was stored."""
        return Damaged(self.path, self._identity, why)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self.damaged("text that is not UTF-8") from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says, in our words; what is neither damage nor in the user's hand stays a fault of the program."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the number is detail
            if code in _DAMAGE:
                raise self.damaged(str(error)) from error
            if code in _REMEDIES:
                raise ImgclfError(f"{self.path}: {_REMEDIES[code]} ({error})") from error
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
    """The file, made with its folder if missing. One that turns out damaged in the block is set aside, as Damaged says."""
    try:
        with contextlib.closing(Database(path, tables)) as db:
            yield db
    except Damaged as damage:
        if damage.path == path:
            damage.set_aside()
        raise


@contextlib.contextmanager
def begun(path: Path, tables: Tables, begin: Callable[[Database], T]) -> Iterator[T]:
    """What `begin` makes of the file, which is open until the block ends.

    Where `begin` finds it damaged, it is set aside with one line, and `begin` is called once more with a new one.
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

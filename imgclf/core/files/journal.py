"""The journal: the folder `.imgclf/journal` with one file per operation, its plan. It keeps every operation that
moved a file; their number is not limited.

A plan is written before the first file moves, and read again after a kill or for an undo. `operations.py` carries plans out,
`undo.py` takes them back.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic, contained, seal
from imgclf.core.files.contained import Folder
from imgclf.core.files.plans import PLAN, How, Move, Plan, check, number_of

_MAX_BYTES = 1 << 28  # of a plan: about a million moves


class Journal:
    """An open folder of images and the folder of its plans, None if there is none."""

    def __init__(self, data: Path, root: Folder, folder: Folder | None) -> None:
        self.data, self.root, self.folder = data, root, folder

    def names(self, *endings: str) -> list[str]:
        """Names of the plans with one of these endings (any by default), by number."""
        found = self.folder.names() if self.folder else []
        return sorted((name for name in found if name.endswith(endings or ".json") and PLAN.fullmatch(name)), key=number_of)

    def _plans_folder(self) -> Folder:
        if self.folder is None:
            raise ImgclfError(f"{self.data}: its journal was removed meanwhile; run again")
        return self.folder

    def read(self, name: str) -> Plan:
        """A plan, each move checked. Raises ImgclfError for one that is damaged."""
        folder = self._plans_folder()
        try:
            content = json.loads(folder.read(name, _MAX_BYTES))
            if not isinstance(content, dict):
                raise TypeError("not a JSON object")
            how: How = {"move": "move", "link": "link"}[content["how"]]  # type: ignore[assignment]
            moves = tuple(Move(*map(str, move)) for move in content["moves"])
            for move in moves:
                check(move)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImgclfError(
                f"{folder.path / name}: this journal is damaged ({error}); the files it moved are in the quarantine folder "
                "beside it, or in the class folders"
            ) from error
        author, time_ = seal.author(content), str(content.get("time", ""))
        return Plan(name, how, moves, time_, author, seal.is_own(self.data, content))

    def write(self, name: str, how: How, moves: Sequence[Move]) -> None:
        content = {
            "format": 2,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "how": how,
            "moves": [[move.source, move.target, move.mark] for move in moves],
        }
        # ASCII JSON carries names that are not valid UTF-8 as surrogate escapes, there and back unchanged.
        text = json.dumps(seal.sealed(self.data, content), indent=0).encode("ascii")
        if len(text) > _MAX_BYTES:  # it could not be read back to undo it
            raise ImgclfError(
                f"{self.data}: {len(moves):,} files are too many to move at once; work on some of the classes first"
            )
        atomic.write_atomic(self._plans_folder().path / name, text)

    def rename(self, name: str, ending: str) -> str:
        folder, new = self._plans_folder(), name.split(".")[0] + ending
        folder.replace(name, new)
        folder.sync()
        return new

    def remove(self, name: str) -> None:
        self._plans_folder().unlink(name)

    @contextlib.contextmanager
    def place(self, path: str) -> Iterator[tuple[Folder, str]]:
        """(a folder, a path below it) of a path of a move. The way to an absolute path is opened without following links."""
        if not os.path.isabs(path):
            yield self.root, path
            return
        whole = Path(path)
        with Folder.named(Path(whole.anchor)) as top:
            yield top, "/".join(whole.parts[1:])

    def status(self, path: str) -> os.stat_result | None:
        """The status of the file at a path of a move; None if there is none."""
        with self.place(path) as place:
            return contained.status(*place)


@contextlib.contextmanager
def opened(data: Path, state: Path, *, make: bool = False) -> Iterator[Journal]:
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(Folder.named(data))
        folder = None
        with contextlib.suppress(FileNotFoundError):
            folder = stack.enter_context(contained.at(state / "journal", make=make))
        yield Journal(data, root, folder)

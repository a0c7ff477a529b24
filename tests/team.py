"""Run commands as several users of one folder: real user numbers of the kernel, without names and home folders.

As a script, this module runs the commands. Other users may not be allowed to read the installed Python, so one process loads
all modules that the commands need, and then forks and changes its user.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ANNE, BEN, TEAM = 61001, 61002, 61100  # two users, whose own groups have the same numbers, and a group of both


# Writes what train and audit store in a data folder: prepared pixels, and features of a network that averages colours.
PIXELS = """
import numpy as np
from imgclf.core.config import Preprocessing
from imgclf.core.files.state_folder import state_folder
from imgclf.data import dataset, file_index, prepared_images
from imgclf.models import features

class Mean:
    width = 3

    def vector(self, image):
        return image.mean(axis=(0, 1)).astype(np.float32)

everything, _skipped = dataset.index(folder)
prepared_images.prepare(folder, {"train": everything}, Preprocessing(16, 16))
paths = [sample.path for sample in everything.samples]
read = [(digest, lambda: np.zeros((4, 4, 3), np.uint8)) for digest in file_index.content_hashes(folder, paths).values()]
features.extract(Mean(), state_folder(folder) / "features" / "mean.sqlite", read)
"""


class Team:
    """Users who run commands, one at a time."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.folder, self._process = folder, process

    def run(self, user: int, umask: int, *words: object, team: bool = True) -> tuple[int, str]:
        """Run a command as this user; return its exit code and stderr."""
        code, text = self._request([user, team, umask, *map(str, words)])
        return int(code), str(text)

    def can_write(self, user: int, path: Path) -> bool:
        """Whether the kernel lets this user write a path."""
        return bool(self._request([user, True, 0, "may write", str(path)])[0] == 0)

    def _request(self, request: list[Any]) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process has no pipes")
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def users() -> Iterator[Team]:
    """Start the team with a folder that every user may enter, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory(prefix="imgclf-team-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        command = [sys.executable, __file__, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield Team(Path(folder), process)


def _serve(folder: Path) -> None:
    from conftest import make_classes

    make_classes(folder, {"a": 4, "b": 4})
    commands = ("clean", "clean --undo", "clean --history", "split --force", "split --check", "preview")
    for words in (*commands, "split --seed x"):  # the last one loads what is needed to report an error
        verb, *options = words.split()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            _command([verb, str(folder), *options])
    exec(PIXELS, {"folder": folder})
    for line in sys.stdin:
        print(json.dumps(_as_user(*json.loads(line))), flush=True)


def _as_user(user: int, team: bool, umask: int, *words: str) -> tuple[int, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader, encoding="utf-8", errors="replace") as errors:
            text = errors.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
    code = 99
    try:
        os.close(reader)
        os.dup2(writer, 2)
        os.setgroups([TEAM] if team and user else [])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.umask(umask)
        os.environ |= {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/cache"}
        if words[0] == "may write":
            code = 0 if os.access(words[1], os.W_OK) else 1
        elif words[0] == "python":
            exec(words[1], {"folder": Path(words[2])})
            code = 0
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                code = _command(words)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _command(words: list[str] | tuple[str, ...]) -> int:
    from rich.console import Console

    from imgclf.cli.app import app
    from imgclf.cli.shared import console

    console.err = Console(stderr=True, highlight=False, width=1000)
    console.out = Console(highlight=False, width=1000)
    sys.argv = ["imgclf", *words]
    try:
        app()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


if __name__ == "__main__":
    _serve(Path(sys.argv[1]) / "warm")

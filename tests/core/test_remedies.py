"""Each error of the system that a user can meet has its own remedy: real situations, and what is said of them."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Run, make_classes, write

from imgclf.core import remedies
from imgclf.core.files import atomic
from imgclf.core.remedies import why

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the situations are made with Linux")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system; skips the test where none may be mounted."""
    folder.mkdir()
    if not IS_ROOT or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("needs a root that may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as small:
        atomic.write_atomic(small / "a.bin", b"x" * 200_000)


def read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "-t", "tmpfs", "-o", "ro", "tmpfs") as fixed:
        atomic.write_atomic(fixed / "a", b"x")


def no_permission(tmp_path: Path) -> None:
    """As another user, where this one is root."""
    (tmp_path / "closed").mkdir(mode=0o500)
    if not IS_ROOT:
        atomic.write_atomic(tmp_path / "closed/a", b"x")
        return
    reading, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.chmod(tmp_path, 0o755)
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setuid(NOBODY)
            try:
                os.mkdir("/root/imgclf-test")
            except OSError as error:
                os.write(sending, str(error.errno).encode())
        os._exit(0)
    os.close(sending)
    os.waitpid(child, 0)
    number = int(os.read(reading, 10))
    os.close(reading)
    raise OSError(number, os.strerror(number))


def there_already(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").mkdir()


def not_empty(tmp_path: Path) -> None:
    write(tmp_path / "a/b", b"x")
    (tmp_path / "a").rmdir()


def missing(tmp_path: Path) -> None:
    (tmp_path / "no/a").write_bytes(b"x")


def no_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", b"x")
    (tmp_path / "a/b").mkdir()


def no_file(tmp_path: Path) -> None:
    tmp_path.write_bytes(b"x")


def long_name(tmp_path: Path) -> None:
    (tmp_path / ("a" * 300)).write_bytes(b"x")


def loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "a").read_bytes()


def many_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        for _ in range(100):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def too_large(tmp_path: Path) -> None:
    """Python ignores SIGXFSZ, so the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with open(tmp_path / "a", "wb", buffering=0) as file:
            file.write(b"x" * 1000)
            file.write(b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def other_disk(tmp_path: Path) -> None:
    write(tmp_path / "a", b"x")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("one disk only")
        os.link(tmp_path / "a", f"{other}/a")


def running(tmp_path: Path) -> None:
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / "sleep")
    process = subprocess.Popen([program, "60"])
    try:
        open(program, "ab").close()
    finally:
        process.kill()
        process.wait()


def in_use(tmp_path: Path) -> None:
    with mounted(tmp_path / "used", "-t", "tmpfs", "tmpfs") as used:
        os.rmdir(used)


def invalid(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.rename(tmp_path / "a", tmp_path / "a/b")


def unsupported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    os.setxattr(tmp_path / "a", "user.x", b"x")  # not on a pipe


SITUATIONS: list[tuple[Callable[[Path], None], str, str]] = [
    (full, "ENOSPC", "No space left on device; free some space there, or choose another place"),
    (full_disk, "ENOSPC", "free some space there"),
    (read_only, "EROFS", "Read-only file system; nothing can be written there: choose another place"),
    (no_permission, "EACCES", "Permission denied; ask its owner for permission, or choose another place"),
    (there_already, "EEXIST", "File exists; move the existing file or folder, or choose another place"),
    (not_empty, "ENOTEMPTY", "Directory not empty; move the existing file or folder"),
    (missing, "ENOENT", "No such file or directory; check the spelling, and that every folder in the path exists"),
    (no_folder, "ENOTDIR", "a file is in the place of a folder: move it away"),
    (no_file, "EISDIR", "this is a folder, not a file"),
    (long_name, "ENAMETOOLONG", "File name too long; choose a shorter name"),
    (loop, "ELOOP", "a link in the path points to itself: remove it"),
    (many_open, "EMFILE", "Too many open files; raise the limit on open files, for example with `ulimit -n 4096`"),
    (too_large, "EFBIG", "File too large; the file is too large there"),
    (other_disk, "EXDEV", "source and target are on different disks: choose a place on the same disk"),
    (running, "ETXTBSY", "Text file busy; it is a running program: stop it"),
    (in_use, "EBUSY", "another program is using it: close that program"),
    (invalid, "EINVAL", "Invalid argument; the file system does not allow this name or size"),
    (unsupported, "EPERM", "ask its owner for permission"),
]


@pytest.mark.parametrize(("situation", "name", "words"), SITUATIONS, ids=[one.__name__ for one, _, _ in SITUATIONS])
def test_real_situations(situation: Callable[[Path], None], name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised:
        situation(tmp_path)
    assert errno.errorcode[raised.value.errno or 0] == name
    assert words in why(raised.value)
    if name not in ("ENOSPC", "EDQUOT"):
        assert "space" not in why(raised.value)


def test_every_remedy_is_its_own() -> None:
    """Of an error that is not known, the system's words alone are given; where else to go is in the words of the asker."""
    assert (
        why(OSError(errno.ENOSPC, "full"), "give --out another place")
        == "full; free some space there, or give --out another place"
    )
    assert why(OSError("odd")) == "odd"
    assert why(OSError()) == "OSError"
    assert why(OSError(errno.EDOM, "odd")) == "odd"
    for name in ("EDQUOT", "EIO", "ESTALE", "ENFILE", "ENOMEM", "EAGAIN", "EILSEQ", "EMLINK"):  # that a test cannot make
        assert name in remedies._REMEDIES
    for words in remedies._REMEDIES.values():
        assert words.format(elsewhere="") == words.replace("{elsewhere}", "")
        assert words[0].islower()
        assert not words.endswith(".")


def test_commands_say_the_remedy(project: Path, imgclf: Run) -> None:
    """Several commands, each with another error of the system; nothing but a full disk asks for space."""
    long = "x" * 300
    write(project / "file", b"")
    for words, remedy in (
        (["preview", "--out", f"{long}.png"], "choose a shorter name"),
        (["explain", "data/red/000.png", "--out", "file/x"], "a file is in the place of a folder"),
        (["predict", "data/red/000.png", "--link-to", "file/x"], "a file is in the place of a folder"),
        (["predict", "data/red/000.png", "--link-to", long], "choose a shorter name"),
        (["predict", "--merge", "data"], "this is a folder, not a file"),
    ):
        done = imgclf(*words)
        assert done.returncode in (1, 2), (words, done.stderr)
        assert remedy in done.stderr.splitlines()[-1], words
        assert "space" not in done.stderr


def test_every_translator_asks_for_the_remedy() -> None:
    """No module gives the system's words to the user without the remedy, but for one file of many in a table."""
    package = Path(remedies.__file__).parents[1]
    single = {
        "images/header.py",
        "images/archives/__init__.py",
        "images/sources.py",
        "data/dataset.py",
        "serve/server.py",
        "core/files/placing.py",
        "core/remedies.py",
        "export/formats.py",
    }
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() not in single:
            assert "strerror" not in path.read_text("utf-8"), path


def test_a_full_disk_while_it_predicts(project: Path) -> None:
    command = [sys.executable, "-m", "imgclf", "predict", "data/red/000.png", "--json"]
    with open("/dev/full", "w") as full_:
        done = subprocess.run(command, cwd=project, stdout=full_, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "imgclf: error: No space left on device; free some space there, or choose another place; then run the command again\n"
    )


def test_a_name_that_is_too_long_is_no_full_disk(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 3, "b": 3}, size=8)
    done = imgclf("split", "--export", "x" * 300, "--json")
    assert done.returncode == 1
    assert re.search(r"File name too long; choose a shorter name", done.stderr.splitlines()[-1])
    assert not done.stdout or json.loads(done.stdout)

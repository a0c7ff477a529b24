"""Interrupt every command that writes, many times, and search for lost images, incomplete files and failing next runs.

    python tests/benchmarks/faults.py                      # everything, about 40 minutes
    python tests/benchmarks/faults.py --faults kill --commands clean undo --rounds 200

kill: SIGKILL at a random moment of the command. step: SIGKILL just before a change to the disk, once in each phase of the
command (lock, index, plan, moves, ...), so that every kill comes at a known point. full: a nearly full file system in memory
(needs root). readonly: the data folder on a read-only file system (needs root). vanish: images are removed and rewritten while
the command runs. two: the command runs twice at the same time. clock: the clock jumps by up to a year each time it is read.

After each fault: every image still exists exactly once and complete (except the removed ones); every file with its final name
is complete; there is no traceback; and the command, run again, succeeds and leaves the same files as an uninterrupted one.
"""

import argparse
import collections
import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import encoded, make_classes, write

NETWORK = ("--weights", "none", "--image-size", "32")


@dataclasses.dataclass(frozen=True)
class Case:
    """A command, the stage it starts from, the files it makes, and the command that continues it if it is another one."""

    words: tuple[str, ...]
    before: str
    makes: tuple[str, ...] = ()
    again: Callable[[Path], tuple[str, ...]] | None = None
    rounds: int = 30
    first: tuple[str, ...] = ()  # run first in the same folder, because its plans contain absolute paths


def _resume_words(root: Path) -> tuple[str, ...]:
    """Return the command that continues a training: --resume if its config exists, otherwise the same command."""
    run = root / "runs" / "new"
    if (run / "bundle.json").exists():
        return ("info", "runs/new")
    if (run / "config.json").exists():
        return ("train", "data", "--resume", "runs/new")
    shutil.rmtree(run, ignore_errors=True)
    return TRAIN


def _exported(root: Path) -> tuple[str, ...]:
    """An export gets its final name when it is complete, and is not overwritten then."""
    if (root / "folders").exists():
        assert len(list((root / "folders").rglob("*.png"))) == 90
        return ("split", "data", "--check")
    return ("split", "data", "--export", "folders")


def _unless_made(path: str, *words: str) -> Callable[[Path], tuple[str, ...]]:
    """A file of `--out` is complete if it exists, and is not overwritten then."""
    return lambda root: ("info", "runs/toy") if (root / path).exists() else words


MOVE = ("predict", "inbox", "--move-to", "sorted", "--jsonl")
TRAIN = ("train", "data", "--epochs", "3", "--batch-size", "8", "--run-dir", "runs/new")
HEAD = ("train", "data", "--model", "efficientnet-lite0", *NETWORK, "--epochs", "2", "--run-dir", "runs/new")
CASES = {
    "clean": Case(("clean", "data"), "dirty", rounds=60),
    "undo": Case(("clean", "data", "--undo"), "cleaned", rounds=60),
    "apply": Case(("clean", "data", "--apply", "actions.csv"), "dirty"),
    "share": Case(("clean", "data", "--shard", "1/1"), "dirty"),
    "preview": Case(("preview", "data", "--html", "all.html", "--histograms", "sizes.png"), "split", ("all.html", "sizes.png")),
    "split": Case(("split", "data", "--seed", "7", "--force"), "split", ("data/.imgclf/split.csv",)),
    "folds": Case(("split", "data", "--folds", "3", "--force"), "split"),
    "export folders": Case(("split", "data", "--export", "folders"), "split", ("folders",), _exported),
    "train": Case(TRAIN, "split", ("runs/new/bundle.json", "runs/new/model.keras"), _resume_words, rounds=15),
    "train a head": Case(HEAD, "split", ("runs/new/bundle.json", "runs/new/model.keras"), _resume_words, rounds=10),
    "audit": Case(("audit", "data", *NETWORK, "--report", "found.csv", "--html", "found.html"), "split", ("found.csv",)),
    "evaluate": Case(("evaluate", "--html", "report.html"), "trained", ("report.html", "runs/toy/evaluation-test.json")),
    "explain": Case(("explain", "inbox", "--json"), "trained", ("explained",)),
    "litert": Case(
        ("export", "--out", "new.tflite"),
        "trained",
        ("new.tflite",),
        _unless_made("new.tflite", "export", "--out", "new.tflite"),
        rounds=6,
    ),
    "onnx": Case(
        ("export", "--format", "onnx", "--out", "new.onnx"),
        "trained",
        ("new.onnx",),
        _unless_made("new.onnx", "export", "--format", "onnx", "--out", "new.onnx"),
        rounds=4,
    ),
    "saved-model": Case(
        ("export", "--format", "saved-model", "--out", "served"),
        "trained",
        ("served",),
        _unless_made("served", "export", "--format", "saved-model", "--out", "served"),
        rounds=4,
    ),
    "keras": Case(
        ("export", "--format", "keras", "--out", "new.keras"),
        "trained",
        ("new.keras",),
        _unless_made("new.keras", "export", "--format", "keras", "--out", "new.keras"),
        rounds=4,
    ),
    "move": Case(MOVE, "trained", ("sorted",), rounds=60),
    "link": Case(("predict", "inbox", "--link-to", "sorted", "--jsonl"), "trained", ("sorted",)),
    "move back": Case(("predict", "--undo", "sorted"), "trained", rounds=60, first=MOVE),
    "runs rm": Case(("runs", "rm", "toy"), "trained", ("runs/.trash",)),
}


def imgclf(root: Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "imgclf", *words], cwd=root, capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def _succeed(root: Path, *words: str) -> None:
    done = imgclf(root, *words)
    assert done.returncode == 0, (words, done.stderr)


def stages(base: Path) -> None:
    """Make a folder for every stage from which a command starts."""
    make_classes(base / "split" / "data", {"blue": 30, "green": 30, "red": 30})
    shutil.copytree(base / "split", base / "dirty")
    dirty = base / "dirty" / "data"
    for number in range(150):
        write(dirty / "red" / f"page {number:03d}.png", b"<html>" + str(number).encode())
        write(dirty / "blue" / f"bare{number:03d}", encoded(Image.new("RGB", (40, 40), (number, 10, 200)), "PNG"))
    actions = "".join(f"green/{number:03d}.png,relabel,red\n" for number in range(30))
    write(base / "dirty" / "actions.csv", b"path,action,new_label\n" + actions.encode())
    shutil.copytree(base / "dirty", base / "cleaned")
    _succeed(base / "cleaned", "clean", "data")
    _succeed(base / "split", "split", "data")
    shutil.copytree(base / "split", base / "trained")
    _succeed(base / "trained", "train", "data", "--epochs", "2", "--batch-size", "8", "--run-dir", "runs/toy")
    make_classes(base / "trained" / "inbox", {"x": 150, "y": 150, "z": 150})


def images(root: Path) -> collections.Counter[str]:
    """Count the files of the user by content, wherever they are now; a hard link counts once."""
    found: collections.Counter[str] = collections.Counter()
    for top in ("data", "inbox", "sorted"):
        seen = set()
        for path in (root / top).rglob("*"):
            inside = path.relative_to(root / top).parts
            if path.is_file() and not (".imgclf" in inside and "quarantine" not in inside):
                status = path.stat()
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    found[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    return found


def incomplete(root: Path) -> Iterator[str]:
    """Yield every file with its final name that is incomplete."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        is_temporary = any((part.startswith(".") and part not in (".imgclf", ".trash")) or ".tmp" in part for part in inside)
        is_theirs = inside[0] in ("data", "inbox", "sorted", "folders") and (".imgclf" not in inside or "quarantine" in inside)
        if is_temporary or is_theirs or not path.is_file():
            continue
        try:
            check_complete(path)
        except Exception as error:
            yield f"{path.relative_to(root)}: {type(error).__name__}: {error}"


def check_complete(path: Path) -> None:
    """Raise an error if a file is incomplete."""
    content = path.read_bytes()
    match path.suffix:
        case ".json":
            json.loads(content)
        case ".csv":
            text = content.decode()
            assert text.endswith("\n")
            assert len({len(row) for row in csv.reader(text.splitlines())}) == 1
        case ".png" | ".bmp":
            with Image.open(path) as image:
                image.load()
        case ".html":
            assert content.rstrip().endswith(b"</html>")
        case ".keras":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
        case ".npz":
            with np.load(path) as archive_:
                assert all(archive_[name].size >= 0 for name in archive_.files)
        case ".tflite":
            from ai_edge_litert.interpreter import Interpreter

            Interpreter(str(path)).allocate_tensors()
        case ".onnx":
            import onnxruntime

            onnxruntime.InferenceSession(content)
        case ".sqlite":
            if not path.with_name(f"{path.name}-journal").exists():
                with contextlib.closing(sqlite3.connect(path)) as db:
                    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def phase_of(path: str) -> str:
    """Return the phase of a command that is about to change this path (relative to the working folder)."""
    parts = Path(path).parts
    if ".imgclf-probe-" in path or parts[-1] == ".imgclf":
        return "state"
    if ".imgclf" in parts:
        first = re.sub(r"^\.?split\b.*", "split", parts[parts.index(".imgclf") + 1])
        return {"journal": "plan", "quarantine": "moves", "split": "manifest"}.get(first, first)
    return {"data": "moves", "inbox": "moves", "sorted": "moves"}.get(parts[0], re.sub(r"\W.*", "", parts[0].lstrip(".")))


# Logs each change to the disk to a file before it happens, and kills the process before the change with the given number.
STEPS = """
import os, signal, sys
_root, _number = os.getcwd() + os.sep, int(os.environ["STEP"])
_log = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_place = {"os.rename": (1, 3), "os.link": (1, 3), "os.symlink": (1, 2), "os.mkdir": (0, 2)}  # indices of path and folder
_place |= dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "open"), (0, 1))
_count = 0

def _whole(event, path, folder):
    if event == "open":  # this event does not contain the folder of a descriptor
        caller = sys._getframe(2)
        if caller.f_code.co_filename.endswith("contained.py") and "self" in caller.f_locals:
            path = os.path.join(os.fsdecode(caller.f_locals["self"].path), path)
    elif isinstance(folder, int) and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.abspath(path)

def _hook(event, arguments):
    global _count
    if event not in _place or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        return
    path, folder = (arguments[place] for place in _place[event])
    if isinstance(path, int):
        return
    path = _whole(event, os.fsdecode(path), folder)
    if not path.startswith(_root):
        return
    _count += 1
    os.write(_log, os.fsencode(event + " " + path[len(_root):] + "\\n"))
    if _count == _number:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(_hook)
"""


class Breaker:
    """Run one command with faults, in many rounds."""

    def __init__(self, base: Path, name: str, chance: random.Random) -> None:
        self.base, self.name, self.case, self.chance = base, name, CASES[name], chance
        self.before = images(base / self.case.before)
        self.length = 0.0
        write(base / "steps" / "sitecustomize.py", STEPS.encode())
        self.counts: collections.Counter[str] = collections.Counter()
        self.phases: dict[str, list[int]] = {}
        for _attempt in range(2):  # the first run fills the caches of the system
            work = self.fresh("whole")
            started = time.perf_counter()
            process = self.start(work, env=self.with_steps(0))
            output = process.communicate()
            assert process.returncode == 0, (self.case.words, output)
            self.length = time.perf_counter() - started
        for number, phase in enumerate(self.steps(), 1):
            self.phases.setdefault(phase, []).append(number)

    def with_steps(self, number: int) -> dict[str, str]:
        """Return an environment in which a command logs its changes to the disk and is killed before the given one."""
        (self.base / "steps.txt").unlink(missing_ok=True)
        path = os.pathsep.join([str(self.base / "steps"), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, "STEP": str(number), "STEPS": str(self.base / "steps.txt")}

    def steps(self) -> list[str]:
        """Return the phases of the changes to the disk that a command logged."""
        lines = (self.base / "steps.txt").read_text("utf-8", "surrogateescape").splitlines()
        return [phase_of(line.partition(" ")[2]) for line in lines]

    def fresh(self, name: str, folder: Path | None = None) -> Path:
        work = (folder or self.base) / name
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.base / self.case.before, work, symlinks=True)
        if self.case.first:
            _succeed(work, *self.case.first)
        return work

    def start(self, work: Path, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "imgclf", *self.case.words]
        return subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]

    def check(self, work: Path, lost: collections.Counter[str] | None = None, *, finish: bool = True) -> None:
        """Check that nothing is lost or incomplete, and that the next run finishes the job."""
        gone = self.before - images(work) - (lost or collections.Counter())
        assert not gone, f"{self.name}: {gone.total()} images lost in {work}"
        broken = list(incomplete(work))
        assert not broken, f"{self.name}: incomplete files in {work}: {broken}"
        if finish:
            words = self.case.again(work) if self.case.again else self.case.words
            done = imgclf(work, *words)
            if self.name in ("undo", "move back", "runs rm") and done.returncode == 1:  # the first run had finished
                assert "Traceback" not in done.stderr
            else:
                assert done.returncode == (1 if lost else 0) or done.returncode == 0, (self.name, words, done.stderr)
            assert not self.before - images(work) - (lost or collections.Counter())
            for made in self.case.makes:
                assert (work / made).exists(), (self.name, made)
            broken = list(incomplete(work))
            assert not broken, f"{self.name}: incomplete files in {work}: {broken}"
            self.counts["left over"] += sum(".tmp" in path.name for path in work.rglob("*"))
        self.counts["rounds"] += 1

    def ends_well(self, process: subprocess.Popen[str]) -> bool:
        """Whether a process succeeds; its exit code must be 0 or 1, without a traceback."""
        _out, err = process.communicate()
        assert process.returncode in (0, 1), (self.name, process.returncode, err)
        assert "Traceback" not in err, (self.name, err)
        self.counts["failed with an error" if process.returncode else "succeeded"] += 1
        return process.returncode == 0

    def kill(self) -> None:
        work = self.fresh("killed")
        process = self.start(work, env=self.with_steps(0))
        try:
            process.wait(self.chance.uniform(0.1, 0.95) * self.length)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            self.counts["killed"] += 1
            self.counts[f"in {(self.steps() or ['start'])[-1]}"] += 1
        self.check(work, finish=process.returncode != 0)

    def step(self) -> None:
        for phase, numbers in self.phases.items():
            work = self.fresh("killed")
            process = self.start(work, env=self.with_steps(self.chance.choice(numbers)))
            _out, err = process.communicate()
            assert process.returncode == -signal.SIGKILL, (self.name, phase, process.returncode, err)
            self.counts["killed"] += 1
            self.counts[f"in {self.steps()[-1]}"] += 1
            self.check(work)

    def vanish(self) -> None:
        """Remove a tenth of the images, and truncate another tenth, while the command reads them."""
        work = self.fresh("vanishing")
        files = [
            path for top in ("data", "inbox") for path in sorted((work / top).rglob("*.png")) if ".imgclf" not in path.parts
        ]
        self.chance.shuffle(files)
        victims, cut = files[: len(files) // 10], files[len(files) // 10 : len(files) // 5]
        lost = collections.Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in victims + cut)
        process = self.start(work)
        for path in [path for pair in zip(victims, cut, strict=False) for path in pair]:
            time.sleep(self.length / len(files) * 5 * self.chance.random())
            try:
                if path in victims:
                    path.unlink()
                else:
                    with open(path, "r+b") as file:
                        file.truncate(path.stat().st_size // 2)
            except FileNotFoundError:  # it was moved
                continue
        self.ends_well(process)
        self.check(work, lost, finish=False)

    def two(self) -> None:
        """Run the command twice at once: both end, with success or with an error that names the other process."""
        work = self.fresh("twice")
        done = [self.ends_well(process) for process in [self.start(work), self.start(work)]]
        self.check(work, finish=not any(done))

    def clock(self) -> None:
        work = self.fresh("clock")
        jump = work / "site"
        write(jump / "sitecustomize.py", JUMPS.encode())
        path = os.pathsep.join([str(jump), os.environ.get("PYTHONPATH", "")])
        now = time.time()
        for number, file in enumerate(
            path_ for path_ in sorted((work / "data").rglob("*.png")) if ".imgclf" not in path_.parts
        ):
            os.utime(file, (now, now + (number % 5 - 2) * 3e7))  # a year in the future, a year ago
        is_done = self.ends_well(self.start(work, env={**os.environ, "PYTHONPATH": path}))
        self.check(work, finish=not is_done)

    def full(self) -> None:
        """Run on a disk with little free space."""
        room = int(2 ** self.chance.uniform(12, 22))
        with mounted(self.base / "small", 800 << 20) as folder:
            work = self.fresh("full", folder)
            used = os.statvfs(folder)
            size = (used.f_blocks - used.f_bfree) * used.f_frsize + room
            subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
            is_done = self.ends_well(self.start(work, env={**os.environ, "TMPDIR": str(self.base)}))
            subprocess.run(["mount", "-o", f"remount,size={800 << 20}", str(folder)], check=True)
            self.check(work, finish=not is_done)

    def readonly(self) -> None:
        with mounted(self.base / "fixed", 400 << 20) as folder:
            work = self.fresh("fixed", folder)
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            cache = self.base / "cache"
            self.ends_well(self.start(work, env={**os.environ, "XDG_CACHE_HOME": str(cache)}))
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            self.check(work)


JUMPS = """
import random, time
_real, _chance = time.time, random.Random(0)
time.time = lambda: _real() + _chance.uniform(-3e7, 3e7)
time.gmtime = lambda seconds=None, _real=time.gmtime: _real(time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None, _real=time.localtime: _real(time.time() if seconds is None else seconds)
time.strftime = lambda form, when=None, _real=time.strftime: _real(form, when or time.localtime())
"""


class mounted:
    """A file system in memory of the given size in bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder)], check=True)
        return self.folder

    def __exit__(self, *_details: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


FAULTS = {"kill": 0, "step": 3, "full": 6, "readonly": 1, "vanish": 3, "two": 3, "clock": 2}  # rounds; 0: those of the case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--commands", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        stages(base)
        for name in options.commands:
            breaker = Breaker(base, name, random.Random(options.seed))
            for fault in options.faults:
                if fault in ("full", "readonly") and os.geteuid() != 0:
                    continue
                breaker.counts.clear()
                problem = ""
                for _round in range(options.rounds or FAULTS[fault] or breaker.case.rounds):
                    try:
                        getattr(breaker, fault)()
                    except AssertionError as error:
                        problem = f"   FAILED: {error}"
                        breaker.counts["failed"] += 1
                counts = ", ".join(f"{count} {word}" for word, count in breaker.counts.items())
                print(f"{name:<15} {fault:<9} {breaker.length:5.1f} s  {counts}{problem[:600]}", flush=True)


if __name__ == "__main__":
    main()

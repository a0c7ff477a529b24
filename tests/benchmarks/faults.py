"""Break every command that writes, over and over, and look for anything lost, anything half done, and a next run that fails.

    python tests/benchmarks/faults.py                      # all, some 40 minutes
    python tests/benchmarks/faults.py --faults kill --commands clean undo --rounds 200

kill: SIGKILL at a random moment of the command. step: SIGKILL just before a change to the disk, one in each phase of the
command (lock, index, plan, moves, ...), so that every kill hits at a known point. full: a nearly full file system in memory
(needs root). readonly: the data folder on a read-only file system (needs root). vanish: images are removed and rewritten while
the command runs. two: the command runs twice at the same time. clock: a clock that jumps by up to a year each time it is read.

After each: every image that was there is there once, whole, somewhere (the removed ones excepted); every file that has its
final name is whole; no traceback; and the command run again ends well and leaves what an undisturbed one leaves.
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
    """A command, what must be there before it, what it makes, and how it is taken up again where not by itself."""

    words: tuple[str, ...]
    before: str
    makes: tuple[str, ...] = ()
    again: Callable[[Path], tuple[str, ...]] | None = None
    rounds: int = 30
    first: tuple[str, ...] = ()  # a command that goes before, in the folder itself: its plans name files by their whole paths


def _resume(root: Path) -> tuple[str, ...]:
    """Training goes on with --resume from the moment that it has said what it does; before that it is simply started."""
    run = root / "runs" / "new"
    if (run / "bundle.json").exists():
        return ("info", "runs/new")
    if (run / "config.json").exists():
        return ("train", "data", "--resume", "runs/new")
    shutil.rmtree(run, ignore_errors=True)
    return TRAIN


def _exported(root: Path) -> tuple[str, ...]:
    """An export takes its name when it is whole, and then none is made over it."""
    if (root / "folders").exists():
        assert len(list((root / "folders").rglob("*.png"))) == 90
        return ("split", "data", "--check")
    return ("split", "data", "--export", "folders")


def _unless_made(path: str, *words: str) -> Callable[[Path], tuple[str, ...]]:
    """What `--out` names is whole when it is there, and then nothing is written over it."""
    return lambda root: ("info", "runs/toy") if (root / path).exists() else words


MOVE = ("predict", "inbox", "--move-to", "sorted", "--jsonl")
TRAIN = ("train", "data", "--epochs", "3", "--batch-size", "8", "--run-dir", "runs/new")
HEAD = ("train", "data", "--model", "efficientnet-lite0", *NETWORK, "--epochs", "2", "--run-dir", "runs/new")
CASES = {
    "clean": Case(("clean", "data"), "dirty", rounds=60),
    "undo": Case(("clean", "data", "--undo"), "cleaned", rounds=60),
    "apply": Case(("clean", "data", "--apply", "orders.csv"), "dirty"),
    "share": Case(("clean", "data", "--shard", "1/1"), "dirty"),
    "preview": Case(("preview", "data", "--html", "all.html", "--histograms", "sizes.png"), "split", ("all.html", "sizes.png")),
    "split": Case(("split", "data", "--seed", "7", "--force"), "split", ("data/.imgclf/split.csv",)),
    "folds": Case(("split", "data", "--folds", "3", "--force"), "split"),
    "export folders": Case(("split", "data", "--export", "folders"), "split", ("folders",), _exported),
    "train": Case(TRAIN, "split", ("runs/new/bundle.json", "runs/new/model.keras"), _resume, rounds=15),
    "train a head": Case(HEAD, "split", ("runs/new/bundle.json", "runs/new/model.keras"), _resume, rounds=10),
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


def _well(root: Path, *words: str) -> None:
    done = imgclf(root, *words)
    assert done.returncode == 0, (words, done.stderr)


def stages(base: Path) -> None:
    """Make a folder for every state that a command begins with."""
    make_classes(base / "split" / "data", {"blue": 30, "green": 30, "red": 30})
    shutil.copytree(base / "split", base / "dirty")
    dirty = base / "dirty" / "data"
    for number in range(150):
        write(dirty / "red" / f"page {number:03d}.png", b"<html>" + str(number).encode())
        write(dirty / "blue" / f"bare{number:03d}", encoded(Image.new("RGB", (40, 40), (number, 10, 200)), "PNG"))
    orders = "".join(f"green/{number:03d}.png,relabel,red\n" for number in range(30))
    write(base / "dirty" / "orders.csv", b"path,action,new_label\n" + orders.encode())
    shutil.copytree(base / "dirty", base / "cleaned")
    _well(base / "cleaned", "clean", "data")
    _well(base / "split", "split", "data")
    shutil.copytree(base / "split", base / "trained")
    _well(base / "trained", "train", "data", "--epochs", "2", "--batch-size", "8", "--run-dir", "runs/toy")
    make_classes(base / "trained" / "inbox", {"x": 150, "y": 150, "z": 150})


def images(root: Path) -> collections.Counter[str]:
    """Every file that is the user's, wherever it lies now, by content; a hard link counts once."""
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


def half_done(root: Path) -> Iterator[str]:
    """Every file under its final name that is not whole."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        is_temporary = any((part.startswith(".") and part not in (".imgclf", ".trash")) or ".tmp" in part for part in inside)
        is_theirs = inside[0] in ("data", "inbox", "sorted", "folders") and (".imgclf" not in inside or "quarantine" in inside)
        if is_temporary or is_theirs or not path.is_file():
            continue
        try:
            is_whole(path)
        except Exception as error:
            yield f"{path.relative_to(root)}: {type(error).__name__}: {error}"


def is_whole(path: Path) -> None:
    """Raise where a file does not end as it should."""
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
    """The phase of a command that is about to change this path (relative to the working folder)."""
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
_told = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_place = {"os.rename": (1, 3), "os.link": (1, 3), "os.symlink": (1, 2), "os.mkdir": (0, 2)}  # of the path, of its folder
_place |= dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "open"), (0, 1))
_count = 0

def _whole(event, path, folder):
    if event == "open":  # which does not tell the folder that a descriptor stands for
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
    os.write(_told, os.fsencode(event + " " + path[len(_root):] + "\\n"))
    if _count == _number:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(_hook)
"""


class Breaker:
    """One command and one fault, round after round."""

    def __init__(self, base: Path, name: str, chance: random.Random) -> None:
        self.base, self.name, self.case, self.chance = base, name, CASES[name], chance
        self.before = images(base / self.case.before)
        self.length = 0.0
        write(base / "steps" / "sitecustomize.py", STEPS.encode())
        self.figures: collections.Counter[str] = collections.Counter()
        self.phases: dict[str, list[int]] = {}
        for _attempt in range(2):  # the first finds nothing in the system's caches
            work = self.fresh("whole")
            started = time.perf_counter()
            process = self.start(work, env=self.with_steps(0))
            said = process.communicate()
            assert process.returncode == 0, (self.case.words, said)
            self.length = time.perf_counter() - started
        for number, phase in enumerate(self.steps(), 1):
            self.phases.setdefault(phase, []).append(number)

    def with_steps(self, number: int) -> dict[str, str]:
        """The environment in which a command logs its changes to the disk, and is killed before the one with this number."""
        (self.base / "steps.txt").unlink(missing_ok=True)
        path = os.pathsep.join([str(self.base / "steps"), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, "STEP": str(number), "STEPS": str(self.base / "steps.txt")}

    def steps(self) -> list[str]:
        """The phases of the changes to the disk that a command logged."""
        lines = (self.base / "steps.txt").read_text("utf-8", "surrogateescape").splitlines()
        return [phase_of(line.partition(" ")[2]) for line in lines]

    def fresh(self, name: str, folder: Path | None = None) -> Path:
        work = (folder or self.base) / name
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.base / self.case.before, work, symlinks=True)
        if self.case.first:
            _well(work, *self.case.first)
        return work

    def start(self, work: Path, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "imgclf", *self.case.words]
        return subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]

    def check(self, work: Path, lost: collections.Counter[str] | None = None, *, finish: bool = True) -> None:
        """Nothing lost, nothing half done, and the next run finishes the job."""
        gone = self.before - images(work) - (lost or collections.Counter())
        assert not gone, f"{self.name}: {gone.total()} images lost in {work}"
        broken = list(half_done(work))
        assert not broken, f"{self.name}: half done in {work}: {broken}"
        if finish:
            words = self.case.again(work) if self.case.again else self.case.words
            done = imgclf(work, *words)
            if self.name in ("undo", "move back", "runs rm") and done.returncode == 1:  # it was done already
                assert "Traceback" not in done.stderr
            else:
                assert done.returncode == (1 if lost else 0) or done.returncode == 0, (self.name, words, done.stderr)
            assert not self.before - images(work) - (lost or collections.Counter())
            for made in self.case.makes:
                assert (work / made).exists(), (self.name, made)
            broken = list(half_done(work))
            assert not broken, f"{self.name}: half done in {work}: {broken}"
            self.figures["left over"] += sum(".tmp" in path.name for path in work.rglob("*"))
        self.figures["rounds"] += 1

    def told(self, process: subprocess.Popen[str]) -> bool:
        """Whether it ended well; exit codes 0 and 1 alone, never a traceback."""
        _out, err = process.communicate()
        assert process.returncode in (0, 1), (self.name, process.returncode, err)
        assert "Traceback" not in err, (self.name, err)
        self.figures["said so" if process.returncode else "ended well"] += 1
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
            self.figures["killed"] += 1
            self.figures[f"in {(self.steps() or ['start'])[-1]}"] += 1
        self.check(work, finish=process.returncode != 0)

    def step(self) -> None:
        for phase, numbers in self.phases.items():
            work = self.fresh("killed")
            process = self.start(work, env=self.with_steps(self.chance.choice(numbers)))
            _out, err = process.communicate()
            assert process.returncode == -signal.SIGKILL, (self.name, phase, process.returncode, err)
            self.figures["killed"] += 1
            self.figures[f"in {self.steps()[-1]}"] += 1
            self.check(work)

    def vanish(self) -> None:
        """A tenth of the images is removed, and another cut short, while the command looks at them."""
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
        self.told(process)
        self.check(work, lost, finish=False)

    def two(self) -> None:
        """At once: both end, well or with a line that says who is there."""
        work = self.fresh("twice")
        done = [self.told(process) for process in [self.start(work), self.start(work)]]
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
            os.utime(file, (now, now + (number % 5 - 2) * 3e7))  # a year from now, a year ago
        is_done = self.told(self.start(work, env={**os.environ, "PYTHONPATH": path}))
        self.check(work, finish=not is_done)

    def full(self) -> None:
        """On a disk with room for what is there and a little more."""
        room = int(2 ** self.chance.uniform(12, 22))
        with mounted(self.base / "small", 800 << 20) as folder:
            work = self.fresh("full", folder)
            used = os.statvfs(folder)
            size = (used.f_blocks - used.f_bfree) * used.f_frsize + room
            subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
            is_done = self.told(self.start(work, env={**os.environ, "TMPDIR": str(self.base)}))
            subprocess.run(["mount", "-o", f"remount,size={800 << 20}", str(folder)], check=True)
            self.check(work, finish=not is_done)

    def readonly(self) -> None:
        with mounted(self.base / "fixed", 400 << 20) as folder:
            work = self.fresh("fixed", folder)
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            cache = self.base / "cache"
            self.told(self.start(work, env={**os.environ, "XDG_CACHE_HOME": str(cache)}))
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
    """A file system in memory of so many bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder)], check=True)
        return self.folder

    def __exit__(self, *_details: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


FAULTS = {"kill": 0, "step": 3, "full": 6, "readonly": 1, "vanish": 3, "two": 3, "clock": 2}  # rounds; 0: as in the case


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
                breaker.figures.clear()
                problem = ""
                for _round in range(options.rounds or FAULTS[fault] or breaker.case.rounds):
                    try:
                        getattr(breaker, fault)()
                    except AssertionError as error:
                        problem = f"   FAILED: {error}"
                        breaker.figures["failed"] += 1
                figures = ", ".join(f"{count} {word}" for word, count in breaker.figures.items())
                print(f"{name:<15} {fault:<9} {breaker.length:5.1f} s  {figures}{problem[:600]}", flush=True)


if __name__ == "__main__":
    main()

"""Fuzz the readers of files that may come from someone else (folders, archives, runs) with altered copies of valid files.

    python tests/benchmarks/fuzz_files.py --seconds 600 --only runs

For any bytes, the only exception is ImgclfError, no input takes more than 5 s of processor time, and neither this process nor
a child of it takes more than 500 MB. Anything else stops the run with the path of the input. Unlike fuzz.py, this is not guided
by coverage, because SQLite, zipfile, tarfile and LiteRT are not instrumented. Instead, numbers are replaced by ones that often
break parsers.
"""

import argparse
import bz2
import collections
import contextlib
import gzip
import io
import logging
import lzma
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import fuzz_runs
from conftest import encoded, make_classes, photo

from imgclf.clean import applying, cleaning, undoing, writing
from imgclf.core import csv_files
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files import locks, operations, placing, plans
from imgclf.data import file_index, layout
from imgclf.data.manifest import read_manifest
from imgclf.images import archives
from imgclf.images.archives.member import MAX_MEMBER
from imgclf.split import splitting

SECONDS, MEGABYTES = 5, 500
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]
WORDS = [
    b"'=1",
    b"\0",
    b"\xff",
    b"..",
    b"/",
    b'"',
    b"\r",
    b",",
    b"[]",
    b"{}",
    b"1e999",
    b"-1",
    b"9" * 30,
    b"\xed\xa0\x80",
    b"[" * 2000,
]


class Target:
    """A kind of file: valid examples, and the function that reads an altered one."""

    def __init__(
        self,
        ending: str,
        good: list[bytes],
        read: Callable[[Path], object],
        place: Path,
        change: Callable[[bytes, random.Random], bytes] | None = None,
    ) -> None:
        self.ending, self.good, self.read, self.place, self.change = ending, good, read, place, change or changed


def changed(content: bytes, generator: random.Random) -> bytes:
    """Return a copy with some bytes flipped, replaced by numbers or words, removed, doubled, or cut off."""
    new = bytearray(content)
    for _change in range(generator.choice((1, 1, 2, 3, 8))):
        if not new:
            break
        at = generator.randrange(len(new))
        kind = generator.randrange(7)
        if kind == 0:
            new[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            size = generator.choice((1, 2, 4, 8))
            number = generator.choice(NUMBERS) & ((1 << 8 * size) - 1)
            new[at : at + size] = number.to_bytes(size, generator.choice(("little", "big")))
        elif kind == 2:
            new[at : at + generator.choice((0, 1, 4))] = generator.choice(WORDS)
        elif kind == 3:
            del new[at : at + generator.randrange(1, 600)]
        elif kind == 4:
            end = at + generator.randrange(1, 1200)
            new[at:at] = new[at:end]
        elif kind == 5:
            other = generator.randrange(len(new))
            new[at : at + 512] = new[other : other + 512]
        elif generator.random() < 0.2:
            del new[at:]
    return bytes(new)


def tars(images: list[bytes]) -> list[bytes]:
    """Make tars with all features of their formats: long names, extended and global headers, links, a sparse file."""
    made = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w", format=form, pax_headers={"comment": "x"}) as archive:
            for number, content in enumerate(images):
                entry = tarfile.TarInfo("d/" * 60 * number + f"{number}.jpg")
                entry.size, entry.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 1
                if form == tarfile.PAX_FORMAT and number == 1:
                    entry.pax_headers = {"GNU.sparse.map": f"0,{len(content)}", "GNU.sparse.size": str(len(content))}
                archive.addfile(entry, io.BytesIO(content))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "x" * 120
            archive.addfile(link)
        made.append(whole.getvalue())
    return made


def zips(images: list[bytes], folder: Path) -> list[bytes]:
    made = []
    for methods in ((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
        path = folder / "made.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number, content in enumerate(images):
                info = zipfile.ZipInfo(f"d/{number}.jpg")
                with archive.open(info, "w", force_zip64=number == 1) as file:
                    file.write(content)
                archive.writestr(f"{number}.jpg", content, methods[number % 2])
        made.append(path.read_bytes())
    return made


def targets(folder: Path) -> list[Target]:
    images = [encoded(photo(number, 24, 16)) for number in range(3)]
    plain = tars(images)

    def members(path: Path) -> None:
        for member in archives.members(str(path)):
            assert len(member.content or b"") <= MAX_MEMBER

    found = [
        Target(ending, [compress(tar) for tar in plain], members, folder / f"a{ending}")
        for ending, compress in (
            (".tar", bytes),
            (".tar.gz", gzip.compress),
            (".tar.bz2", bz2.compress),
            (".tar.xz", lzma.compress),
        )
    ]
    # These are altered before compression, so that the change reaches the reader of the tar.
    for ending, compress in ((".tgz", gzip.compress), (".txz", lzma.compress)):
        found.append(
            Target(ending, plain, lambda path, compress=compress: members(_rewritten(path, compress)), folder / f"b{ending}")
        )
    found.append(Target(".zip", zips(images, folder), members, folder / "a.zip"))

    data = make_classes(folder / "data", {"a": 4, "b": 4, "c": 4}, size=8)
    splitting.split(data, SplitConfig(train=0.5, val=0.25, test=0.25))
    report = folder / "report.csv"
    writing.write_report(cleaning.clean(data, dry_run=True), report)
    cleaning.clean(data, on={"low-contrast": "quarantine"})
    paths = [file.path for file in layout.scan(data)]

    def index(_path: Path) -> None:
        for other in index_path.parent.iterdir():
            if other != index_path:
                other.unlink()
        for _twice in range(2):
            with contextlib.suppress(ImgclfError), file_index.inspect(data, paths) as scanned:
                scanned.similar_pairs()
                scanned.hashes()

    (index_path,) = (data / ".imgclf/index").glob("*.sqlite")
    manifest = data / ".imgclf/split.csv"
    plans = sorted((data / ".imgclf/journal").glob("*.json")) or [_journal_plan(data)]
    placed = folder / "sorted"
    (placed / "a").mkdir(parents=True)
    image_file = folder / "photo.jpg"
    image_file.write_bytes(images[0])
    placing.place(placed, [(str(image_file), "a")], "move")
    (placing_plan,) = (placed / ".imgclf/journal").glob("*.json")

    def undo_placing(path: Path) -> None:
        placing.undo(placed, foreign=True)

    def read_journal(path: Path) -> None:
        operations.history(data, data / ".imgclf")
        undoing.undo(data, dry_run=True)
        with locks.locked(data / ".imgclf", "fuzz"):
            operations.recover(data, data / ".imgclf")

    return [
        *found,
        Target(".sqlite", [index_path.read_bytes()], index, index_path),
        Target(".csv", [manifest.read_bytes()], read_manifest, manifest),
        Target(".csv", [report.read_bytes(), b"\xff\xfe" + report.read_text().encode("utf-16-le")],
               lambda path: applying.apply(data, path, dry_run=True), report),
        Target(".csv", [b"path,group\na/000.png,x\n", b"path;group\r\na/000.png;x\r\n"],
               lambda path: list(csv_files.records(path, "path", "group")), folder / "groups.csv"),
        Target(".json", [plan.read_bytes() for plan in plans], read_journal, plans[0]),
        Target(".json", [placing_plan.read_bytes()], undo_placing, placing_plan),
    ]  # fmt: skip


def _journal_plan(data: Path) -> Path:
    """Make a journal with one operation of two moves; return its plan."""
    moves = [plans.Move(f"a/00{number}.png", f".imgclf/quarantine/0001/a/00{number}.png") for number in range(2)]
    operations.apply(data, data / ".imgclf", "clean", moves)
    return next((data / ".imgclf/journal").glob("*.json"))


def _rewritten(path: Path, compress: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(compress(path.read_bytes()))
    return path


def used() -> float:
    """Return the processor seconds of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak() -> float:
    """Return the peak memory of this process or a child, in MB."""
    with contextlib.suppress(OSError, IndexError, ImportError):
        import resource

        own = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1e3
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", choices=("files", "runs"), help="Fuzz only the readers of folders and archives, or only those of runs."
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # each damaged index logs a line
    generator = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        kinds = [] if options.only == "runs" else targets(folder)
        if options.only != "files":
            kinds += [Target(*one) for one in fuzz_runs.targets(folder, changed)]
        rounds, refused, slowest = 0, 0, 0.0
        of_kind: collections.Counter[str] = collections.Counter()
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            target = generator.choice(kinds)
            content = target.change(generator.choice(target.good), generator)
            target.place.write_bytes(content)
            began = used()
            reason = ""
            try:
                target.read(target.place)
            except ImgclfError as error:
                refused += 1
                reason = "more than one line" if "\n" in str(error) else ""
            except Exception:
                reason = traceback.format_exc()
            spent = used() - began
            slowest = max(slowest, spent)
            if spent > SECONDS or peak() > MEGABYTES:
                reason = f"{spent:.1f} s, {peak():.0f} MB"
            rounds += 1
            of_kind[target.place.name] += 1
            if reason:
                kept = Path.cwd() / f"fuzz-{options.seed}-{rounds}{target.ending}"
                kept.write_bytes(content)
                sys.exit(f"{kept}: {reason}")
        print(f"{rounds:,} inputs, {refused:,} refused; slowest {slowest:.2f} s, peak {peak():.0f} MB")
        print(", ".join(f"{name} {count:,}" for name, count in sorted(of_kind.items())))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

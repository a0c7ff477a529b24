"""Test untrusted archives: they need little memory and time, what is not read has a reason, and no other file is moved."""

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, encoded, photo, tree, write

from imgclf.images import archives
from imgclf.images.archives import member
from imgclf.images.archives.member import Member
from imgclf.images.sources import Source, expand

PHOTO = encoded(photo(1))
BEYOND = "not fully read: unpacks to more than 200 times its size; if you trust it, unpack it and use the folder"


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return the 512-byte tar header of an entry."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def image(name: str) -> bytes:
    return header(name, len(PHOTO)) + padded(PHOTO)


def extended(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a pax extended header."""
    return header("pax", len(body), kind) + padded(body)


def record(text: bytes) -> bytes:
    """Return a pax record: its own length in decimal digits, a space, the text and a newline."""
    length = len(text) + 3
    while len(str(length)) + len(text) + 2 != length:
        length += 1
    return b"%d %s\n" % (length, text)


END = bytes(1024)


def read(path: Path, content: bytes) -> list[Member]:
    return list(archives.members(str(write(path, content))))


def problems(found: Sequence[Member]) -> dict[str, str]:
    """Return the problem of each member by name; "" if it was read."""
    return {member.name: member.problem for member in found}


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_long_header_is_not_read(kind: bytes, tmp_path: Path) -> None:
    """The header has three gigabytes. tarfile would hold them in memory twice."""
    found = read(tmp_path / "a.tar", image("1.jpg") + header("x", 3 << 30, kind) + bytes(1 << 20))
    assert found == [
        Member("1.jpg", PHOTO),
        Member("", problem="not fully read: a header of 3,221,225,472 bytes, more than 262,144"),
    ]


@pytest.mark.parametrize("kind", [b"L", b"x"])
def test_long_names_are_read(kind: bytes, tmp_path: Path) -> None:
    name = "d/" * 100 + "x" * 200 + ".jpg"
    stored = (
        extended(record(b"path=" + name.encode())) if kind == b"x" else header("l", 405, kind) + padded(name.encode() + b"\0")
    )
    assert read(tmp_path / "a.tar", stored + image("short") + END) == [Member(name, PHOTO)]
    name = "x" * 5000
    stored = (
        extended(record(b"path=" + name.encode())) if kind == b"x" else header("l", 5001, kind) + padded(name.encode() + b"\0")
    )
    assert problems(read(tmp_path / "a.tar", stored + image("short") + END)) == {
        "x" * 60 + "...": "a name of 5,000 characters, more than 4,096"
    }


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (extended(record(b"a=" + b"1" * 300)), "an extended header with a number of more than 255 digits"),
        (extended(b"4 a\n" * 5000 + b"="), "an extended header that cannot be read"),
        (extended(b"999999 a=b\n"), "an extended header that cannot be read"),
        (extended(b"0 a=b\n"), "an extended header that cannot be read"),
        (extended(b"".join(record(b"k%d=" % n) for n in range(65))), "an extended header of 65 keywords, more than 64"),
        (b"".join(extended(record(b"k%d=" % n), b"g") + header("x", 0) for n in range(65)), "more than 64 global keywords"),
        (extended(record(b"a=" + b"v" * 200_000)) * 2, "an entry with more than 262,144 bytes of headers"),
        (header("x", -512), "an entry of negative size"),
        (b"\xff" * 512, "bad checksum"),
        (b"x" * 100, "truncated header"),
    ],
)  # fmt: skip
def test_headers_that_take_long_end_the_archive(before: bytes, words: str, tmp_path: Path) -> None:
    """The images before the header are read. The problem of the archive is that it was not read to its end."""
    after = b"" if len(before) == 100 else image("2.jpg") + END
    found = problems(read(tmp_path / "a.tar", image("1.jpg") + before + after))
    assert list(found) == ["1.jpg", ""]
    assert words in found[""]


def test_the_map_of_a_sparse_entry_is_bounded(tmp_path: Path) -> None:
    entry = bytearray(header("s.jpg", len(PHOTO), tarfile.GNUTYPE_SPARSE))
    entry[386:410] = b"%011o\0%011o\0" % (0, len(PHOTO))
    entry[482] = 1
    more = bytearray(512)
    more[504] = 1
    entry[148:156] = b" " * 8
    entry[148:156] = b"%06o\0 " % sum(entry)
    found = problems(read(tmp_path / "a.tar", image("1.jpg") + entry + more * 4000 + END))
    assert "an entry with more than 262,144 bytes of headers" in found[""]
    entry[482] = 0
    entry[483:495] = b"%011o\0" % len(PHOTO)
    entry[148:156] = b" " * 8
    entry[148:156] = b"%06o\0 " % sum(entry)
    assert read(tmp_path / "a.tar", bytes(entry) + padded(PHOTO) + END) == [Member("s.jpg", PHOTO)]


@pytest.mark.parametrize("opened", [gzip.open, bz2.open, lzma.open])
def test_a_tar_of_zeros_is_not_unpacked(opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the archive limits how much is decompressed to reach the next entry."""
    monkeypatch.setattr(member, "SLACK", 1 << 20)
    path = tmp_path / "a.tar.gz"
    with opened(path, "wb") as file:
        file.write(image("1.jpg") + header("zeros", 3 << 30) + bytes(1 << 26))
    assert list(archives.members(str(path))) == [Member("1.jpg", PHOTO), Member("", problem=BEYOND)]
    with opened(path, "wb") as file:  # a compression ratio of ordinary archives
        file.write(image("1.jpg") + header("zeros", 1 << 19) + bytes(1 << 19) + image("2.jpg") + END)
    assert list(archives.members(str(path))) == [Member("1.jpg", PHOTO), Member("2.jpg", PHOTO)]


def test_concatenated_compressed_streams_are_read(tmp_path: Path) -> None:
    """pbzip2, pigz and `cat` write such files."""
    whole = image("1.jpg") + image("2.jpg") + END
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        packed = compress(whole[:700]) + compress(whole[700:])
        assert [member.name for member in read(tmp_path / "a.tar.xz", packed)] == ["1.jpg", "2.jpg"]


def test_an_xz_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    """The file sets the memory of the LZMA decoder, up to four gigabytes."""
    whole = image("1.jpg") + END
    for preset, names in ((9, ["1.jpg"]), (None, [""])):
        filters = None if preset else [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
        packed = bytearray(lzma.compress(whole, preset=preset, filters=filters))
        if not preset:  # block header: size, flags, filter, length, dictionary size, checksum
            assert packed[14:16] == b"\x21\x01"
            packed[16] = 40  # 4 GB
            packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))
        found = read(tmp_path / "a.tar.xz", bytes(packed))
        assert [member.name for member in found] == names
    assert found[0].problem == "damaged or not an archive: Memory usage limit exceeded"


def zipped(path: Path, entries: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_method_of_zip_is_read(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    entries = [("1.jpg", PHOTO), ("empty.txt", b""), ("notes.txt", b"milk"), ("2", encoded(photo(2), "PNG"))]
    whole = zipped(path, entries, method)
    assert list(archives.members(str(path))) == [Member("1.jpg", PHOTO), Member("2", entries[3][1])]
    whole[whole.index(b"PK\1\2") + 16] ^= 1  # the checksum
    found = problems(read(path, bytes(whole)))
    assert found == {"1.jpg": found["1.jpg"], "2": ""}
    assert "Bad CRC-32" in found["1.jpg"]


def test_a_large_lzma_dictionary_in_a_zip_is_refused(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", [("1.jpg", PHOTO), ("2.jpg", PHOTO)], zipfile.ZIP_LZMA)
    properties = whole.index(b"\5\0", 30) + 2
    whole[properties + 1 : properties + 5] = b"\xff" * 4
    assert problems(read(tmp_path / "a.zip", bytes(whole))) == {
        "1.jpg": "damaged in the archive: needs 4,294,967,295 bytes of memory to unpack, limit 134,217,728; "
        "unpack it and use the folder",
        "2.jpg": "",
    }


def test_unreadable_entries_of_a_zip_are_named(tmp_path: Path) -> None:
    """Encrypted entries, links and overlapping entries are not read. The other entries are."""
    path = tmp_path / "a.zip"
    whole = zipped(path, [(f"{number}.jpg", PHOTO) for number in range(5)])
    starts = [at for at in range(len(whole)) if whole[at : at + 4] == b"PK\1\2"]
    whole[starts[0] + 8] |= 1
    whole[starts[1] + 38 : starts[1] + 42] = struct.pack("<I", 0o120777 << 16)
    whole[starts[2] + 20 : starts[2] + 24] = struct.pack("<I", len(PHOTO) + 100)  # overlaps the next, as in Fifield's bomb
    found = problems(read(path, bytes(whole)))
    overlaps = "cannot be unpacked: it overlaps another entry, as in a ZIP bomb"
    assert found == {
        "0.jpg": "cannot be unpacked: it is encrypted; unpack the archive first",
        "1.jpg": "cannot be unpacked: a link; unpack the archive first",
        "2.jpg": overlaps,
        "3.jpg": "",
        "4.jpg": "",
    }
    for at in starts:
        whole[at + 42 : at + 46] = bytes(4)  # all entries start at the same byte
    assert list(problems(read(path, bytes(whole))).values()).count(overlaps) >= 2


def test_a_zip_of_zeros_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the archive limits what is unpacked. The entry after the zeros is read."""
    monkeypatch.setattr(member, "SLACK", 1 << 21)
    zeros = b"\xff\xd8\xff" + bytes(1 << 20)
    zipped(tmp_path / "a.zip", [*((f"{number}.jpg", zeros) for number in range(9)), ("x.jpg", PHOTO)], zipfile.ZIP_DEFLATED)
    found = problems(members_of(tmp_path / "a.zip"))
    refused = [name for name, problem in found.items() if problem]
    assert refused
    assert {found[name] for name in refused} == {
        "cannot be unpacked: unpacks to more than 200 times its size; if you trust it, unpack it and use the folder"
    }
    assert found["0.jpg"] == found["x.jpg"] == ""


def members_of(path: Path) -> list[Member]:
    return list(archives.members(str(path)))


def test_the_directory_of_a_zip_is_bounded(tmp_path: Path) -> None:
    """The last 22 bytes of the archive declare its size."""
    whole = zipped(tmp_path / "a.zip", [("1.jpg", PHOTO)])
    end = whole.index(b"PK\5\6")
    whole[end + 12 : end + 16] = struct.pack("<I", 1 << 31)
    assert "damaged or not an archive" in problems(read(tmp_path / "a.zip", bytes(whole)))[""]
    big = bytes(1 << 25) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, (1 << 25) - 10, 10, 0)
    assert "its directory is too large (33,554,422 bytes); unpack it" in problems(read(tmp_path / "b.zip", big))[""]


def test_links_and_devices_in_a_tar_are_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind, target in (
            ("s.jpg", tarfile.SYMTYPE, "/etc/passwd"), ("h.jpg", tarfile.LNKTYPE, "/etc/passwd"),
            ("d.jpg", tarfile.CHRTYPE, ""), ("f.jpg", tarfile.FIFOTYPE, ""), ("folder", tarfile.DIRTYPE, ""),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    link, device = "a link to /etc/passwd; unpack the archive first", "a device or pipe, not a file"
    found = problems(members_of(tmp_path / "a.tar"))
    assert found == {
        name: f"cannot be unpacked: {words}"
        for name, words in (("s.jpg", link), ("h.jpg", link), ("d.jpg", device), ("f.jpg", device))
    }


def test_truncated_and_damaged_archives_raise_nothing(tmp_path: Path) -> None:
    """A truncated archive gives a problem wherever it is cut."""
    folder = tmp_path / "packed"
    for number in range(3):
        write(folder / "red" / f"{number}.png", encoded(photo(number), "PNG"))
    for kind, ending in (("zip", "zip"), ("tar", "tar"), ("gztar", "tar.gz"), ("bztar", "tar.bz2"), ("xztar", "tar.xz")):
        whole = Path(shutil.make_archive(str(tmp_path / "photos"), kind, folder)).read_bytes()
        for end in (0, 1, 100, len(whole) // 3, len(whole) // 2):
            found = [source for source in expand([str(write(tmp_path / f"cut.{ending}", whole[:end]))]) if source.problem]
            assert found, (ending, end)
        generator = random.Random(ending)
        for _round in range(40):
            flipped = bytearray(whole)
            for _flip in range(generator.choice((1, 3, 30))):
                flipped[generator.randrange(len(flipped))] ^= 1 << generator.randrange(8)
            read(tmp_path / f"flipped.{ending}", bytes(flipped))
    (source,) = expand([str(tmp_path / "none.zip")])
    assert source.problem == "cannot be read: no such file or directory"
    write(tmp_path / "nothing.zip", zipped(tmp_path / "x.zip", [("__MACOSX/a.png", b"x"), (".hidden/a.png", b"x")]))
    (source,) = expand([str(tmp_path / "nothing.zip")])
    assert source.problem == "no images in this archive"


def test_only_sources_on_disk_have_a_file(tmp_path: Path) -> None:
    """The name of an entry can be the path of another file."""
    photo_ = write(tmp_path / "in" / "1.jpg", PHOTO)
    archive = tmp_path / "in" / "a.zip"
    zipped(archive, [("../1.jpg", PHOTO)])
    assert list(expand([str(tmp_path / "in")])) == [Source.on_disk(str(photo_))]
    assert list(expand([str(archive)])) == [Source(f"{archive}/../1.jpg", PHOTO)]


@pytest.mark.parametrize("how", ["--move-to", "--link-to"])
@pytest.mark.parametrize("sharded", [False, True])
def test_an_entry_with_the_path_of_a_file_does_not_move_the_file(how: str, sharded: bool, project: Path, imgclf: Run) -> None:
    """The system resolves `in/photos.zip/../../home/thesis.docx` to `home/thesis.docx`. Merged shards are no different."""
    thesis = write(project / "home/thesis.docx", b"words")
    (project / "in").mkdir()
    zipped(project / "in/photos.zip", [("../../home/thesis.docx", PHOTO)])
    with tarfile.open(project / "in/photos.tar", "w") as archive:
        entry = tarfile.TarInfo("../../home/thesis.docx")
        entry.size = len(PHOTO)
        archive.addfile(entry, io.BytesIO(PHOTO))
    own = write(project / "in/own.jpg", PHOTO)
    inputs = ["in/photos.zip", "in/photos.tar", "in/own.jpg"]
    if sharded:
        write(project / "part.jsonl", imgclf("predict", *inputs, "--shard", "1/1", "--jsonl").stdout.encode())
        inputs = ["--merge", "part.jsonl"]
    done = imgclf("predict", *inputs, how, "sorted")
    assert done.returncode == 1
    for ending in ("zip", "tar"):
        assert f"in/photos.{ending}/../../home/thesis.docx: not a separate file" in done.stderr.replace("\n", " ")
    assert thesis.read_bytes() == b"words"
    assert os.stat(thesis).st_nlink == 1
    assert [path.rpartition("/")[2] for path in tree(project / "sorted")] == ["own.jpg"]
    assert own.exists() == (how == "--link-to")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc to measure memory")
def test_peak_memory(tmp_path: Path) -> None:
    """A process that reads a name of a gigabyte, zeros and images of 63 MB needs less than 300 MB."""
    with bz2.open(tmp_path / "a.tar.bz2", "wb", 1) as file:
        file.write(header("x", 1 << 30, b"L"))
        for _block in range(8):
            file.write(bytes(1 << 24))
    zipped(
        tmp_path / "a.zip", [(f"{number}.jpg", b"\xff\xd8\xff" + bytes(63 << 20)) for number in range(3)], zipfile.ZIP_DEFLATED
    )
    script = (
        "import sys; from pathlib import Path; from imgclf.images import archives\n"
        "for name in sys.argv[1:]:\n for member in archives.members(name): pass\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    names = [str(tmp_path / "a.tar.bz2"), str(tmp_path / "a.zip")]
    peak = int(subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True).stdout)
    assert peak < 300_000  # kB

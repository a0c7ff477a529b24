"""Inputs: which files a name stands for, and which of them are read."""

import os
import zipfile
from pathlib import Path

import pytest
from conftest import encoded, photo, write

from imgclf.core.errors import ImageError
from imgclf.images import sources
from imgclf.images.sources import Source, expand

PNG = encoded(photo(1), "PNG")


def found(*inputs: str | Path) -> list[str]:
    """Names relative to the current folder, with the problem of those that have one."""
    return [f"{one.name}: {one.problem}" if one.problem else one.name for one in expand([str(one) for one in inputs])]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def archive(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, PNG)
    return path


def test_a_source_with_a_problem_is_not_read(here: Path) -> None:
    """Also when a file has its name."""
    path = write(here / "a.png", PNG)
    with pytest.raises(ImageError, match="the archive is locked") as caught:
        Source(str(path), problem="the archive is locked", file=path).pixels()
    assert caught.value.reason == "unreadable"
    assert Source.on_disk("a.png").pixels().shape == Source("none.png", PNG).pixels().shape == (40, 60, 3)
    with pytest.raises(ImageError, match="zero bytes"):
        Source("a.png").pixels()


def test_the_extension_of_a_member_counts() -> None:
    """A TIFF from an archive that is named like a RAW is one."""
    content = encoded(photo(1), "TIFF")
    assert Source("some.zip/a.tif", content).pixels().shape == (40, 60, 3)
    for name in ("some.zip/a.nef", "some.zip/a.NEF"):
        with pytest.raises(ImageError, match=r"a camera RAW image \(NEF\)"):
            Source(name, content).pixels()


def test_files_of_a_folder_are_those_that_are_images_by_name_or_content(here: Path) -> None:
    """A damaged file with the extension of an image is reported, and not passed over; capitals are the same extension."""
    for name in ("b.JPG", "a.jpg", "c.Png", "e.bin", "f", "notes.txt", "g.heic", ".hidden.jpg"):
        write(here / "in" / name, b"text")
    for name in ("d.bin", "sub/x.jpg", "sub.d/y.jpg", ".git/z.jpg"):
        write(here / "in" / name, PNG)
    assert found("in") == ["in/a.jpg", "in/b.JPG", "in/c.Png", "in/d.bin", "in/sub/x.jpg", "in/sub.d/y.jpg"]


def test_a_link_whose_name_looks_like_a_pattern_is_no_pattern(here: Path) -> None:
    (here / "a[1].png").symlink_to("gone.png")
    assert found("a[1].png") == ["a[1].png"]
    with pytest.raises(ImageError, match="no such file"):
        next(iter(expand("a[1].png"))).pixels()
    assert found("b[1].png") == ["b[1].png: no file matches this pattern"]


def test_a_pattern_gives_each_file_once(here: Path) -> None:
    """A folder that it matches gives its images; archives and other files in it come by their own names."""
    for name in ("in/sub/A.JPG", "in/sub/b", "in/c.png"):
        write(here / name, PNG)
    write(here / "in/sub/broken.JPG", b"text")
    write(here / "in/sub/notes.txt", b"text")
    archive(here / "in/sub/more.ZIP", "1.png")
    folder = ["in/sub/A.JPG", "in/sub/b", "in/sub/broken.JPG"]
    assert found("in/**") == ["in/c.png", *folder, "in/sub/more.ZIP/1.png", "in/sub/notes.txt"]
    assert found("in/*") == ["in/c.png", *folder]
    assert found("in/sub/*") == ["in/sub/A.JPG", "in/sub/b", "in/sub/broken.JPG", "in/sub/more.ZIP/1.png", "in/sub/notes.txt"]


def test_what_is_an_archive(here: Path) -> None:
    """By its extension, unless it is a folder, an image or a pipe."""
    archive(here / "a.zip", "2.png", "1.png")
    archive(here / "B.ZIP", "1.png")
    archive(here / "empty.zip")
    write(here / "folder.zip/1.png", PNG)
    write(here / "image.zip", PNG)
    os.mkfifo(here / "pipe.zip")
    assert sorted(found("a.zip")) == ["a.zip/1.png", "a.zip/2.png"]
    assert found("B.ZIP", "folder.zip", "image.zip", "pipe.zip") == ["B.ZIP/1.png", "folder.zip/1.png", "image.zip", "pipe.zip"]
    assert found("empty.zip") == ["empty.zip: no images in this archive"]
    assert all(source.file is None for source in expand(["a.zip"]))
    (problem,) = found("missing.zip")
    assert problem.startswith("missing.zip: ")


def test_one_input_is_the_only_one(here: Path) -> None:
    write(here / "a.png", PNG)
    source = Source("upload", PNG)
    assert [list(expand(one)) for one in ("a.png", Path("a.png"), source)] == [[Source.on_disk("a.png")]] * 2 + [[source]]
    assert list(expand([Path("a.png"), source])) == [Source.on_disk("a.png"), source]
    assert list(expand([])) == []


def test_arrivals_skip_a_folder_and_see_a_file_that_grows(here: Path) -> None:
    """A copy that keeps the time of its source grows without another time."""
    rounds = sources.arrivals(here, here / "sorted", every=0)
    write(here / "sorted/a.png", PNG)
    file = write(here / "b.png", PNG[:100])
    os.utime(file, (5, 5))
    assert next(rounds) == []
    file.write_bytes(PNG)
    os.utime(file, (5, 5))
    assert next(rounds) == [], "it has grown"
    assert [source.name for source in next(rounds)] == [str(file)]
    assert [next(rounds), next(rounds)] == [[], []]

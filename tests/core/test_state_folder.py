"""Where imgclf keeps its own files, where outputs may lie, and the commands that messages name."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from conftest import write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import state_folder
from imgclf.core.files.state_folder import check_outside


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "a" / "1.png", b"")
    return tmp_path / "data"


@pytest.mark.parametrize("mark", ["split.csv", "folds", "index", None])
def test_outputs_lie_outside_data_folders(data: Path, mark: str | None) -> None:
    """A folder is one by its name, or by what imgclf has left there before."""
    if mark:
        (data / ".imgclf" / mark).mkdir(parents=True)
    known = () if mark else (data,)
    for place in (data / "out.csv", data / "a" / "deep" / "out.csv", data / "a" / ".." / "out.csv"):
        with pytest.raises(ImgclfError) as error:
            check_outside(place, "--out", *known)
        assert str(error.value) == (
            f"{place}: is inside the data folder {data} and would become part of the data; choose a place outside it for --out"
        )
    for place in ("../out.csv", ".", ".imgclf/runs/x", ".hidden/x", "../data 2"):
        check_outside(data / place, "--out", *known)
    with pytest.raises(ImgclfError, match="is inside the data folder"):
        check_outside(data, "--out", *known, itself=True)
    (data.parent / "link").symlink_to(data)
    with pytest.raises(ImgclfError, match="is inside the data folder"):
        check_outside(data.parent / "link" / "out.csv", "--out", *known)
    check_outside(data.parent / "other" / "out.csv", "--out", *known, itself=True)


def test_outputs_replace_only_what_imgclf_wrote(data: Path, tmp_path: Path) -> None:
    def refused(place: Path) -> str:
        try:
            state_folder.check_output(place, data, ".csv", "path,label", "--report")
        except ImgclfError as error:
            return str(error)
        return ""

    assert refused(tmp_path / "new.csv") == refused(tmp_path / "NEW.CSV") == ""
    assert refused(write(tmp_path / "ours.csv", b"path,label,more\n")) == refused(write(tmp_path / "empty.csv", b"")) == ""
    assert "is inside the data folder" in refused(data / "new.csv")
    assert refused(tmp_path / "new.txt").endswith("give --report a file name that ends in .csv")
    assert "was not written by imgclf" in refused(write(tmp_path / "mine.csv", b"name\npath,label"))
    os.mkfifo(tmp_path / "pipe.csv")
    assert refused(tmp_path / "pipe.csv").endswith("exists and is not a regular file; choose another name")
    assert refused(tmp_path / "none" / "new.csv").endswith("none is missing or cannot be written; choose another place")


def test_other_things_in_the_state_folder_make_no_data_folder(data: Path) -> None:
    (data / ".imgclf" / "journal").mkdir(parents=True)
    check_outside(data / "out.csv", "--out")


def test_what_is_a_data_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_folder.check_data_folder(data)
    for place, words in (
        (data / "none", "no such folder; give the folder that holds one folder of images per class"),
        (data / "a" / "1.png", "a file, not a folder; give the folder"),
        (Path("/"), "the home folder or the root of the disk"),
        (data / "home", "the home folder or the root of the disk"),
    ):
        (data / "home").mkdir(exist_ok=True)
        monkeypatch.setattr(state_folder, "home", lambda: data / "home")
        with pytest.raises(ImgclfError, match=words):
            state_folder.check_data_folder(place)


def test_commands_can_be_pasted() -> None:
    assert state_folder.command("split", Path("my photos"), "--force") == "`imgclf split 'my photos' --force`"
    assert state_folder.command("clean", Path("-x")) == "`imgclf clean ./-x`"


@pytest.mark.parametrize(
    ("number", "writable"),
    [(errno.EACCES, False), (errno.EPERM, False), (errno.EROFS, False), (errno.ENOENT, False), (errno.ENOSPC, True)],
)
def test_a_full_disk_is_still_writable(number: int, writable: bool, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    assert state_folder.is_writable(data)
    assert sorted(os.listdir(data)) == ["a"]

    def failing(**_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", failing)
    assert state_folder.is_writable(data) == writable


def test_read_only_data_has_a_folder_in_the_cache(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inside = data / ".imgclf"
    assert state_folder.state_folder(data) == inside
    assert inside.is_dir()
    assert state_folder.is_inside(inside, data)
    monkeypatch.setattr(state_folder, "is_writable", lambda folder: folder != inside)
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    assert state_folder.state_folder(data) == tmp_path / "cache" / "imgclf" / "data" / f"data-{digest}"
    assert not state_folder.is_inside(state_folder.state_folder(data), data)
    inside.rmdir()
    assert state_folder.state_folder(data) == inside, "the data folder itself can be written"
    inside.rmdir()
    monkeypatch.setattr(state_folder, "is_writable", lambda _folder: False)
    assert state_folder.state_folder(data).name == f"data-{digest}"
    write(tmp_path / "file", b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ImgclfError, match=r"read-only, and the cache folder .* cannot be created: .*set XDG_CACHE_HOME to"):
        state_folder.state_folder(data)
    assert state_folder.not_writable(data, "no report is kept") == f"{data}: read-only, so no report is kept"
    write(inside, b"")
    with pytest.raises(ImgclfError, match="a file where imgclf keeps its own folder; move it away"):
        state_folder.state_folder(data)
    inside.unlink()
    inside.symlink_to("a")
    with pytest.raises(ImgclfError, match="a link where imgclf keeps its own folder"):
        state_folder.state_folder(data)


def test_older_files_get_the_first_free_number(tmp_path: Path) -> None:
    report = write(tmp_path / "report.v2.csv", b"")
    assert state_folder.numbered(report) == tmp_path / "report.v2-1.csv"
    write(tmp_path / "report.v2-1.csv", b"")
    (tmp_path / "report.v2-2.csv").symlink_to("nowhere")
    assert state_folder.numbered(report) == tmp_path / "report.v2-3.csv"

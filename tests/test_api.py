"""Test the Python API: one import, lazy resolution, the same results as the commands."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_classes

from imgclf import api


def test_importing_the_api_loads_nothing() -> None:
    code = (
        "import sys; import importlib, typing; before = set(sys.modules); import imgclf.api; "
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['imgclf', 'imgclf.api']\n", done.stderr


def test_every_name_resolves() -> None:
    for name in api.__all__:
        assert getattr(api, name).__name__ == name
        assert getattr(api, name).__doc__, name
    assert dir(api) == api.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = api.nothing


def test_paths_as_text_and_as_path_objects(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=16)
    (data / "a" / "page.jpg").write_bytes(b"<html>")
    one, other = api.clean(str(data), dry_run=True), api.clean(data, dry_run=True)
    assert one.to_dict() == other.to_dict()
    assert one.counts()["quarantined"] == 1
    assert api.split(str(data)).manifest == api.split(data).manifest
    assert api.preview(str(data), out=str(tmp_path / "sheet.png")).path == tmp_path / "sheet.png"


@pytest.mark.parametrize("as_text", [True, False])
def test_predict_takes_one_image_or_a_list(trained: Path, as_text: bool) -> None:
    image = next((trained / "data" / "red").iterdir())
    given = str(image) if as_text else image
    bundle = api.Bundle.load(str(trained / "runs" / "toy"))
    (single,) = api.predict(bundle, given)
    (first, second) = api.predict(bundle, [given, image])
    assert single == first == second
    assert single.label == "red"
    with pytest.raises(api.ImgclfError, match="no such run folder"):
        api.Bundle.load(str(trained / "nothing"))

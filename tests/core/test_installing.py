"""Hints on what to install name what imgclf declares: they work from a clone, from a wheel and from an index."""

import importlib.metadata
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import imgclf
from imgclf.core import extras
from imgclf.core.errors import ImgclfError
from imgclf.export import formats

PROJECT = tomllib.loads((Path(imgclf.__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]


def parsed(command: str) -> set[Requirement]:
    """The requirements of a `pip install` command, as pip reads them."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "pip", "install"]
    return {Requirement(word) for word in words[4:] if not word.startswith("-")}


@pytest.mark.parametrize("extra", ["serve", "onnx", "gpu"])
def test_an_extra_is_named_by_its_requirements(extra: str) -> None:
    assert parsed(extras.command(extra)) == {Requirement(one) for one in PROJECT["optional-dependencies"][extra]}


def test_a_clone_that_is_not_installed_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError

    installed = parsed(extras.command("serve"))
    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert parsed(extras.command("serve")) == installed
    declared = {Requirement(one) for one in PROJECT["dependencies"]}
    assert parsed(extras.command_for("cv2")) == {one for one in declared if one.name == "opencv-python"}


def test_a_module_is_named_by_its_distribution() -> None:
    declared = {Requirement(one) for one in PROJECT["dependencies"]}
    for module, name in (("cv2", "opencv-python"), ("ai_edge_litert.interpreter", "ai-edge-litert"), ("numpy", "numpy")):
        assert parsed(extras.command_for(module)) == {one for one in declared if one.name == name}
        assert "--force-reinstall" in extras.command_for(module)
    for module in (None, "", "typing_extensions"):  # not declared here: what is declared brings it along
        assert parsed(extras.command_for(module)) == declared
        assert "--force-reinstall" not in extras.command_for(module)


def test_messages_name_no_package_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the whole package, `pip install` stands only where the hint is made, and for OpenCV's other wheel."""
    package = Path(imgclf.__file__).parent
    found = [path for path in package.rglob("*.py") if re.search(r"pip install |imgclf\[[a-z]", path.read_text("utf-8"))]
    assert [path.name for path in found] == ["shell.py"]
    assert (package / "cli" / "shared" / "shell.py").read_text("utf-8").count("pip install opencv-python-headless") == 1
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImgclfError) as raised:
        formats.check_packages("onnx")
    assert parsed(str(raised.value).partition("; to install, run: ")[2]) == parsed(extras.command("onnx"))

"""The pages of images in a real Chromium: what is decided, and the CSV that is saved."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, chromium, encoded, make_classes, photo, write

from imgclf.audit import writing
from imgclf.audit.results import Audit
from imgclf.data.checks import Issue
from imgclf.data.dataset import index
from imgclf.evaluation.baseline import Baseline


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with chromium() as made:
        yield made.new_page()


def saved(page: Any) -> list[list[str]]:
    with page.expect_download() as download:
        page.click("#save")
    return list(csv.reader(Path(download.value.path()).read_text().splitlines()))[1:]


def test_an_image_has_one_decision_wherever_it_stands(page: Any, tmp_path: Path, imgclf: Run) -> None:
    """A misnamed copy is found twice, and is the other one of a conflict."""
    data = make_classes(tmp_path / "data", {"a": 4, "b": 4})
    twin = encoded(photo(1))
    write(data / "a" / "twin.jpg", twin)
    write(data / "a" / "twin copy.png", twin)
    write(data / "b" / "twin.jpg", twin)
    assert imgclf("clean", "--dry-run", "--html", "found.html").returncode == 0
    page.goto((tmp_path / "found.html").as_uri())
    all_of_it = page.get_by_label("action for a/twin copy.png")
    values = [one.input_value() for one in all_of_it.all()]
    assert len(values) >= 2
    assert set(values) == {"quarantine,"}
    all_of_it.first.select_option("rename,")
    assert {one.input_value() for one in all_of_it.all()} == {"rename,"}
    assert saved(page) == [["a/twin copy.png", "rename", ""]]
    all_of_it.last.select_option("")
    assert {one.input_value() for one in all_of_it.all()} == {""}
    assert page.locator("#save").is_disabled()


def test_what_an_audit_asks_for_is_chosen_already(page: Any, tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 4, "b, the other": 4})
    issues = (
        Issue("a/000.png", "label", 0.97, "looks like b", label="a", suggestion="b, the other"),
        Issue("a/001.png", "label", 0.8, "looks like b", label="a", suggestion="b, the other"),
    )
    score = 0.75, (0.41, 0.93), Baseline("a", 0.5, (0.22, 0.78), "not better")
    found = Audit(str(data), "efficientnet-lite0", index(data)[0], issues, (), *score, (), "")
    writing.write_page(found, tmp_path / "found.html", 0.9)
    page.goto((tmp_path / "found.html").as_uri())
    assert page.get_by_label("action for a/001.png").input_value() == ""
    assert page.get_by_label("action for a/000.png").input_value() == "relabel,b, the other"
    assert "label 0.97, relabel: b, the other: looks like b" in page.locator("figure").first.inner_text()
    assert saved(page) == [["a/000.png", "relabel", "b, the other"]]

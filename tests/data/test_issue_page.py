"""The images of a page with their issues."""

from imgclf.data import issue_page
from imgclf.data.checks import CHECKS, Issue
from imgclf.reports.image_page import Image

ISSUES = [
    Issue("a/1.png", "conflict", 1.0, "the same pixels as b/1.png", "b/1.png"),
    Issue("a/1.png", "conflict", 0.9, "nearly the same as c/1.png", "c/1.png"),
    Issue("a/2.png", "blurry", 0.8, "soft"),
    Issue("a/2.png", "leakage", 1.0, "the same pixels as gone.png", "gone.png"),
]
IMAGES = {path: Image(path, path[0], "", "PNG", 30, 20, now=f"now/{path}") for path in ("a/1.png", "a/2.png", "b/1.png")}


def test_images_stand_beside_the_first_that_they_resemble() -> None:
    first, second, third = issue_page.with_issues(IMAGES, ["a/2.png", "a/1.png", "b/1.png"], ISSUES, lambda issue: "kept")
    assert [issue[:3] for issue in first.issues] == [("blurry", 0.8, "kept"), ("leakage", 1.0, "kept")]
    assert (first.other, first.other_label, first.other_size, first.other_now) == ("gone.png", "", (0, 0), "")
    assert (second.other, second.other_label, second.other_size, second.other_now) == ("b/1.png", "b", (30, 20), "now/b/1.png")
    assert third == IMAGES["b/1.png"]


def test_checks_count_files_in_the_order_of_the_registry() -> None:
    found = issue_page.checks(ISSUES)
    assert found == {name: (1, CHECKS[name].meaning) for name in ("conflict", "leakage", "blurry")}
    assert list(found) == ["conflict", "leakage", "blurry"]

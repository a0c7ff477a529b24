"""Test machine output: everything that commands print and folders store is valid by imgclf/schemas.

The documents of commands that need a network or TensorFlow are validated in their own tests: audit, compare, export, train.
"""

import csv
import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import Run, encoded, make_classes, photo, write
from described import NAMES, OPTIONAL, as_described, shipped
from jsonschema import Draft202012Validator
from PIL import Image
from served import served

from imgclf import schema
from imgclf.core.config import Format, Model, Quantize, TrainConfig
from imgclf.core.errors import UsageError
from imgclf.data import checks
from imgclf.models import run_info

OPEN = {"contents", "options"}  # definitions that other definitions extend and close


def printed_json(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    """Return the JSON that a command printed; it must contain no NaN."""
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)


def read(path: Path) -> Any:
    return json.loads(path.read_bytes(), parse_constant=pytest.fail)


# -- the schemas themselves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_closed_and_describes_every_field(name: str) -> None:
    own = shipped(name)
    Draft202012Validator.check_schema(own)
    Draft202012Validator.check_schema(schema.schema(name))
    assert re.fullmatch(rf"urn:imgclf:{name}:[1-9][0-9]*", own["$id"])
    number = own["$id"].rsplit(":", 1)[1]
    assert own["title"]

    def check(one: Any, key: str = "") -> None:
        for inner in one if isinstance(one, list) else ():
            check(inner)
        if not isinstance(one, dict):
            return
        if "$ref" in one and "properties" in one and "required" not in one:  # narrows fields of a closed object
            assert set(one["properties"]) <= {"check"}
            check(one["properties"]["check"])
        elif "properties" in one:
            closed = one.get("additionalProperties") is False or one.get("unevaluatedProperties") is False
            assert closed or key in OPEN, one
            assert set(one["properties"]) - set(one["required"]) <= OPTIONAL.get(name, set())
            assert set(one["required"]) <= set(one["properties"])
            for field, inner in one["properties"].items():
                assert "description" in inner or "$ref" in inner, field
            if "schema" in one["properties"]:
                assert one["properties"]["schema"]["const"] == f"{name}/{number}"
                assert one["required"][0] == "schema"
            if "const" in one["properties"].get("format", {}):
                assert one["properties"]["format"]["const"] == int(number)
        elif one.get("type") == "object" and "$ref" not in one:  # its keys are names such as those of classes
            assert isinstance(one["additionalProperties"], dict)
        for field, inner in one.items():
            check(inner, field)

    check(own)


def test_shared_definitions_are_the_same_in_every_schema() -> None:
    """Every file contains the small definitions that it uses, so that it can be read alone."""
    seen: dict[str, Any] = {}
    for name in NAMES:
        for key, definition in shipped(name).get("$defs", {}).items():
            assert seen.setdefault(key, definition) == definition, (name, key)


def test_fields_and_allowed_words_equal_those_of_the_code() -> None:
    issue = shipped("clean")["$defs"]["issue"]["properties"]
    assert issue["check"]["enum"] == [*checks.CHECKS, ""]
    for name, own in (("clean", checks.CLEAN_CHECKS), ("audit", checks.AUDIT_CHECKS)):
        assert shipped(name)["properties"]["issues"]["items"]["properties"]["check"]["enum"] == list(own)
    options = shipped("config")["$defs"]["options"]
    assert options["required"] == [field.name for field in dataclasses.fields(TrainConfig)]
    assert [*options["properties"]["model"]["enum"], "auto"] == list(
        get_args(Model)
    )  # `auto` is replaced by the model that it chose
    types = {field.name: field.type for field in dataclasses.fields(TrainConfig)}
    for name in ("aspect", "precision", "augment", "lr_schedule"):
        assert options["properties"][name]["enum"] == list(get_args(types[name]))
    exported = shipped("export")["properties"]
    assert exported["format"]["enum"] == list(get_args(Format))
    assert exported["quantize"]["enum"] == list(get_args(Quantize))
    assert shipped("bundle")["$id"] == f"urn:imgclf:bundle:{run_info.FORMAT}"


def test_every_schema_is_tested_with_a_real_document() -> None:
    sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert set(re.findall(r'\bas_described\(\s*"([a-z-]+)"', sources)) == set(NAMES)


def test_command(imgclf: Run) -> None:
    listed = imgclf("schema").stdout.splitlines()
    assert listed == [f"{name:<{max(map(len, NAMES))}}  {shipped(name)['title']}" for name in NAMES]
    assert printed_json(imgclf("schema", "clean")) == shipped("clean")
    printed = printed_json(imgclf("schema", "train"))  # contains the schemas that it refers to
    assert printed["$defs"] == {"bundle": shipped("bundle"), "config": shipped("config")}
    done = imgclf("schema", "claen")
    assert (done.returncode, done.stdout) == (2, "")
    assert "claen: no such schema; available: audit, bundle, clean, " in done.stderr
    for name in ("../schemas/clean", "clean.json", ""):
        with pytest.raises(UsageError):
            schema.schema(name)


# -- folders of images ----------------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Make two classes with a broken file, a misnamed one, a copy, an image in both, a blank one, and an ignored file."""
    root = make_classes(tmp_path / "data", {"a": 6, "b": 6}, size=48)
    write(root / "a" / "page.jpg", b"<html>")
    write(root / "a" / "photo.png", encoded(photo(1, 200, 150)))
    write(root / "a" / "one.jpg", encoded(photo(2, 200, 150)))
    write(root / "a" / "two.jpg", encoded(photo(2, 200, 150)))
    for label in "ab":
        write(root / label / "both.jpg", encoded(photo(3, 200, 150)))
    write(root / "b" / "white.png", encoded(Image.new("RGB", (80, 80), (255, 255, 255)), "PNG"))
    write(root / "readme.txt", b"mine")
    return root


def test_clean(faulty: Path, tmp_path: Path, imgclf: Run) -> None:
    assert printed_json(imgclf("clean", "--history", "--json")) == []
    found = as_described("clean", printed_json(imgclf("clean", "--dry-run", "--report", "r.csv", "--json")))
    assert {one["action"] for one in found["issues"]} == {"quarantine", "rename", "report"}
    assert found["ignored"]
    done = as_described("clean", printed_json(imgclf("clean", "--json")))
    assert {one["action"] for one in done["issues"]} == {"quarantined", "renamed", "reported"}
    (plan,) = (faulty / ".imgclf" / "journal").iterdir()
    as_described("journal", read(plan))
    plan.rename(plan.with_name("0001-clean.undoing.json"))
    assert as_described("clean-recover", printed_json(imgclf("clean", "--recover", "--json")))["notes"]
    assert printed_json(imgclf("clean", "--json"))["counts"]["quarantined"]
    assert as_described("clean-history", printed_json(imgclf("clean", "--history", "--json")))[-1]["state"] == "done"
    assert as_described("clean-undo", printed_json(imgclf("clean", "--undo", "--dry-run", "--json")))["restored"]
    assert as_described("clean-undo", printed_json(imgclf("clean", "--undo", "--json")))["restored"]
    with open(tmp_path / "r.csv", "w", newline="") as file:
        actions = (("path", "action", "new_label"), ("a/000.png", "relabel", "b"), ("b/001.png", "quarantine", ""))
        csv.writer(file).writerows((*actions, ("a/photo.png", "rename", "")))
    for options, words in (("--dry-run",), {"relabel", "quarantine", "rename"}), ((), {"relabelled", "quarantined", "renamed"}):
        moved = as_described("clean-apply", printed_json(imgclf("clean", "--apply", "r.csv", "--json", *options)))
        assert {one["action"] for one in moved["moves"]} == words


def test_preview(faulty: Path, imgclf: Run) -> None:
    assert as_described("preview", printed_json(imgclf("preview", "--json")))["skipped"]
    seen = as_described("preview", printed_json(imgclf("preview", "--histograms", "h.png", "--json")))
    assert [one["label"] for one in seen["histograms"]["classes"]] == ["a", "b"]


def test_split(faulty: Path, tmp_path: Path, imgclf: Run) -> None:
    assert as_described("split", printed_json(imgclf("split", "--json")))["skipped"]
    as_described("split-folds", printed_json(imgclf("split", "--folds", 3, "--json")))
    as_described("split-check", printed_json(imgclf("split", "--check", "--json")))
    for subset in ("train", "test"):
        make_classes(tmp_path / "leaky" / subset, {"a": 2, "b": 2})
    assert as_described("split-check", printed_json(imgclf("split", "leaky", "--check", "--json"), 1))["leaks"]


# -- runs -------------------------------------------------------------------------------------------------------------------


def test_files_of_a_run(trained: Path) -> None:
    kept = as_described("bundle", read(trained / "runs/toy/bundle.json"))
    assert kept["config"].items() <= as_described("config", read(trained / "runs/toy/config.json")).items()


def test_evaluate_and_runs(project: Path, imgclf: Run) -> None:
    """Evaluate a folder with images of only one class, a broken file, and a metric below its minimum."""
    other = make_classes(project / "other", {"red": 24}, size=40)  # the images are blue
    write(other / "red" / "broken.png", encoded(photo(1), "PNG")[:300])
    make_classes(other / "red", {"seen": 12})
    scored = as_described("evaluate", printed_json(imgclf("evaluate", "other", "--fail-under", "accuracy=1", "--json"), 1))
    assert (scored["auc"], bool(scored["skipped"]), bool(scored["slices"])) == (None, True, True)
    assert as_described("evaluate", read(project / "runs/toy/evaluation-other-other.json")) == scored
    write(project / "runs/toy/evaluation-old.json", b'{"accuracy": 0.5}')
    known = as_described("info", printed_json(imgclf("info", "toy", "--json")))
    assert set(known["evaluations"]) == {"old", "other-other"}
    assert known == printed_json(imgclf("runs", "show", "toy", "--json"))
    write(project / "runs/half/config.json", b'{"model": "cnn", "data": "/photos"}')
    write(project / "runs/broken/bundle.json", b"{")
    listed = as_described("runs", printed_json(imgclf("runs", "list", "--json")))
    assert {one["state"] for one in listed} == {"finished", "unfinished", "broken"}


def test_predict_and_explain(project: Path, imgclf: Run) -> None:
    inputs = ["data/red/000.png", "missing.png"]
    records = as_described("predict", printed_json(imgclf("predict", *inputs, "--top", 2, "--json"), 1))
    lines = imgclf("predict", *inputs, "--top", 2, "--jsonl", "--link-to", "sorted").stdout.splitlines()
    assert [as_described("prediction", json.loads(line)) for line in lines] == records
    as_described("journal", read(project / "sorted/.imgclf/journal/0001-predict.done.json"))
    explained = as_described("explain", printed_json(imgclf("explain", *inputs, "--json"), 1))
    assert [one["error"] is None for one in explained] == [True, False]


def test_serve(trained: Path) -> None:
    with served(trained / "runs" / "toy", "--threshold", "0.5", cwd=trained) as server:
        as_described("predict", server.form([("a", (trained / "data/red/000.png").read_bytes()), ("b", b"no")])[1])
        as_described("serve-model", json.loads(server.ask("GET", "/model")[2]))
        described = json.loads(server.ask("GET", "/openapi.json")[2])["components"]["schemas"]
    for name, key in (("prediction", "Record"), ("serve-model", "Model")):
        assert described[key] == {key: value for key, value in shipped(name).items() if key not in ("$schema", "$id")}

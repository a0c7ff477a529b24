"""Validate documents with the schemas of imgclf, down to the last field."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import imgclf
from imgclf import schema

FILES = sorted((Path(imgclf.__file__).parent / "schemas").glob("*.json"))
NAMES = sorted(path.stem for path in FILES)
OPTIONAL = {"preview": {"histograms"}, "prediction": {"place"}, "predict": {"place"}}  # optional fields
UNTAGGED = {"predict", "prediction"}  # without `schema`, because there may be millions of records
BY_FORMAT = {"bundle", "journal", "exported"}  # files with their number in `format` instead of `schema`
Place = tuple[str | int, ...]


def shipped(name: str) -> dict[str, Any]:
    """Read a schema from its file."""
    return json.loads((FILES[0].parent / f"{name}.json").read_text("utf-8"))  # type: ignore[no-any-return]


def as_described(name: str, document: Any) -> Any:
    """Check that a document is valid, and is not valid with a field added, removed or renamed; return it."""
    validator = Draft202012Validator(schema.schema(name))
    assert [(error.json_path, error.message) for error in validator.iter_errors(document)] == [], name
    for place in _objects(document):
        assert not validator.is_valid(_changed(document, place, new=None)), (name, place)
    of_list: Place = (0,) if isinstance(document, list) else ()
    first = document[0] if of_list else document
    for field in set(first) - OPTIONAL.get(name, set()):
        assert not validator.is_valid(_changed(document, of_list, without=field)), (name, field)
        assert not validator.is_valid(_changed(document, of_list, without=field, **{f"{field}s": first[field]})), (name, field)
    if name not in UNTAGGED | BY_FORMAT:
        kind = "split" if name == "split-folds" else name  # each entry of split-folds is a split
        number = shipped(kind)["$id"].rsplit(":", 1)[1]
        assert all(next(iter(one.items())) == ("schema", f"{kind}/{number}") for one in (document if of_list else [document]))
    return document


def _objects(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the paths of all objects in a document; of a list, only those in the first and last entry."""
    if isinstance(value, dict):
        yield place
        for key, inner in value.items():
            yield from _objects(inner, (*place, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from _objects(value[index], (*place, index))


def _changed(document: Any, place: Place, *, without: str = "", **more: Any) -> Any:
    """Copy a document and change one of its objects."""
    document = copy.deepcopy(document)
    one = document
    for key in place:
        one = one[key]
    if without:
        del one[without]
    one.update(more)
    return document

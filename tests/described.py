"""Documents held against the schemas that imgclf ships, to the last field."""

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
OPTIONAL = {"preview": {"histograms"}, "prediction": {"place"}, "predict": {"place"}}  # what a document may lack
UNTAGGED = {"predict", "prediction"}  # records of which there may be millions
BY_FORMAT = {"bundle", "journal", "exported"}  # files that say their number in `format`, not in `schema`
Place = tuple[str | int, ...]


def shipped(name: str) -> dict[str, Any]:
    """A schema as its file has it."""
    return json.loads((FILES[0].parent / f"{name}.json").read_text("utf-8"))  # type: ignore[no-any-return]


def as_described(name: str, document: Any) -> Any:
    """A document, which is what the schema of this name says, and would not be with a field more, fewer or renamed."""
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
        kind = "split" if name == "split-folds" else name  # each of which is one
        number = shipped(kind)["$id"].rsplit(":", 1)[1]
        assert all(next(iter(one.items())) == ("schema", f"{kind}/{number}") for one in (document if of_list else [document]))
    return document


def _objects(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where the objects of a document are; of a list, those of its first and its last entry."""
    if isinstance(value, dict):
        yield place
        for key, inner in value.items():
            yield from _objects(inner, (*place, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from _objects(value[index], (*place, index))


def _changed(document: Any, place: Place, *, without: str = "", **more: Any) -> Any:
    """The document with one of its objects changed."""
    document = copy.deepcopy(document)
    one = document
    for key in place:
        one = one[key]
    if without:
        del one[without]
    one.update(more)
    return document

"""Values against schemas: the same verdicts as the package jsonschema, and messages that name the place."""

import itertools
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from imgclf.core import json_schema

BASE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "whole": {"type": "integer", "minimum": 1, "maximum": 3},
        "most": {"type": "number", "minimum": -2},
        "kind": {"enum": ["a", 1, None]},
        "only": {"const": "x"},
        "code": {"type": "string", "pattern": "^[0-9a-f]{2}$"},
        "pair": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "some": {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1},
        "maybe": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}, {"$ref": "#/$defs/point"}]},
        "table": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
    "required": ["whole"],
    "additionalProperties": False,
    "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}
WIDER: dict[str, Any] = {
    "$ref": "urn:imgclf:base#/$defs/point",
    "properties": {"y": {"type": "number"}},
    "required": ["y"],
    "unevaluatedProperties": False,
    "$defs": {},
}


@pytest.fixture(autouse=True)
def _schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "_schema", {"base": BASE, "wider": WIDER}.__getitem__)


def wrong(value: object, name: str = "base", definition: str = "", place: str = "") -> str:
    try:
        json_schema.check(value, name, definition, place=place)
    except json_schema.MismatchError as error:
        return str(error)
    return ""


SUBSETS: list[Any] = [
    0, 1, 3, 4, -2, -3, 1.5, True, False, None, "a", "x", "0f", "0g", "0ff", [], [1], [1, 2], [1, 2, 3], ["1", 2], [{"x": 1}],
    [{"x": 1}, {}], {}, {"x": 1}, {"x": "1"}, {"x": 1, "z": 2}, {"x": True}, {"any": True}, {"any": 1},
]  # fmt: skip


def test_the_verdicts_of_jsonschema() -> None:
    """Every property with every value, and objects drawn at random."""
    chance, validator = random.Random(0), Draft202012Validator(BASE)
    values: list[Any] = [{"whole": 1, name: part} for name, part in itertools.product([*BASE["properties"], "other"], SUBSETS)]
    for _round in range(300):
        names = chance.sample([*BASE["properties"], "other"], chance.randrange(4))
        values.append({"whole": 1, **{name: chance.choice(SUBSETS) for name in names}})
    good = 0
    for value in [*values, *SUBSETS]:
        assert (wrong(value) == "") == validator.is_valid(value), value
        good += validator.is_valid(value)
    assert good > 50


def test_a_schema_that_refers_to_another() -> None:
    assert wrong({"x": 1, "y": 2}, "wider") == ""
    assert wrong({"x": 1}, "wider") == "y is missing"
    assert wrong({"y": 1}, "wider") == "x is missing"
    assert wrong({"x": 1, "y": 2, "z": 3}, "wider") == "z is unknown"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], " is invalid: it is a list of 0, but must be an object"),
        ({}, "whole is missing"),
        ({"whole": 1, "b" * 70: 1}, f"{'b' * 60} is unknown"),
        ({"whole": 0}, "whole is invalid: it is 0, but must be a whole number, 1 to 3"),
        ({"whole": 1.0}, "whole is invalid: it is 1.0, but must be a whole number, 1 to 3"),
        ({"whole": True}, "whole is invalid: it is true, but must be a whole number, 1 to 3"),
        ({"whole": 1, "most": -3}, "most is invalid: it is -3, but must be a number, -2 or more"),
        ({"whole": 1, "kind": "b"}, 'kind is invalid: it is "b", but must be "a" or 1 or null'),
        ({"whole": 1, "only": "y"}, 'only is invalid: it is "y", but must be "x"'),
        ({"whole": 1, "code": "0g"}, 'code is invalid: it is "0g", but must be text like ^[0-9a-f]{2}$'),
        ({"whole": 1, "pair": [1]}, "pair is invalid: it is a list of 1, but must be a list of 2 items"),
        ({"whole": 1, "some": []}, "some is invalid: it is a list of 0, but must be a list of 1 or more items"),
        ({"whole": 1, "some": [{"x": 1}, {}]}, "some[1].x is missing"),
        ({"whole": 1, "maybe": 1}, "maybe is invalid: it is 1, but must be text or null"),
        ({"whole": 1, "either": "a"}, 'either is invalid: it is "a"'),
        ({"whole": 1, "table": {"b": {}}}, "table.b is invalid: it is an object of 0, but must be true or false"),
    ],
)
def test_messages(value: object, words: str) -> None:
    assert wrong(value) == words


def test_what_a_place_is_called_and_how_much_is_shown() -> None:
    assert wrong({"x": "1"}, definition="point", place="there") == 'there.x is invalid: it is "1", but must be a number'
    assert wrong("a" * 58, place="it") == f'it is invalid: it is "{"a" * 58}", but must be an object'
    assert wrong("a" * 59, place="it") == f'it is invalid: it is "{"a" * 56}..., but must be an object'
    assert "it is a number of thousands of digits" in wrong(10**5000, place="it")
    json_schema.check_property(2, "base", "whole")
    with pytest.raises(json_schema.MismatchError, match=r"^whole is invalid: it is 9, but must be a whole number, 1 to 3$"):
        json_schema.check_property(9, "base", "whole")


def test_numbers_have_limits_that_schemas_do_not_know() -> None:
    for value in (float("nan"), float("inf"), -float("inf"), 2**63, -(2**63)):
        assert wrong({"x": value}, definition="point").startswith("x is invalid: it is ")
    for value in (2**63 - 1, 1 - 2**63, 1e300):
        assert wrong({"x": value}, definition="point") == ""

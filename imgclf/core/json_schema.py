"""Validate JSON against the JSON Schemas of imgclf. Only the keywords used in imgclf/schemas are supported.

The validation is stricter than the schemas in two ways: numbers must be finite, and whole numbers must be below 2**63 in
absolute value. The package jsonschema would be one more dependency, and its import is too slow for `imgclf predict`.
"""

import functools
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
_WORDS = {
    "object": "an object", "array": "a list", "string": "text", "boolean": "true or false", "null": "null",
    "integer": "a whole number", "number": "a number",
}  # fmt: skip
LARGEST = 1 << 63  # whole numbers are below this in absolute value


class MismatchError(ValueError):
    """A value does not match its schema. The message begins with its path in the document, as `calibration.temperature`."""


def check(value: object, name: str, definition: str = "", *, place: str = "") -> None:
    """Raise MismatchError unless a value matches the schema `name`, or one of its definitions.

    Args:
        definition: A key of the schema's `$defs`; "" for the schema itself.
        place: Path of the value in its document, for messages.
    """
    whole = _schema(name)
    _check(value, whole["$defs"][definition] if definition else whole, whole, place)


def check_property(value: object, name: str, field: str) -> None:
    """Raise MismatchError unless a value matches the property `field` of the schema `name`."""
    whole = _schema(name)
    _check(value, whole["properties"][field], whole, field)


@functools.cache
def _schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources.files("imgclf") / "schemas" / f"{name}.json").read_text("utf-8"))
    return found


def _check(value: object, schema: Mapping[str, Any], whole: Mapping[str, Any], place: str) -> None:
    known: dict[str, Any] = {}
    schemas = list(_resolved(schema, whole))
    for one, root in schemas:
        _check_value(value, one, place)
        if "anyOf" in one and not any(_fits(value, option, root, place) for option in one["anyOf"]):
            raise MismatchError(f"{place} is invalid: it is {_shown(value)}")
        if isinstance(value, list) and "items" in one:
            for number, item in enumerate(value):
                _check(item, one["items"], root, f"{place}[{number}]")
        if isinstance(value, dict):
            for field in one.get("required", ()):
                if field not in value:
                    raise MismatchError(f"{_below(place, field)} is missing")
            for field, inner in one.get("properties", {}).items():
                known[field] = inner
                if field in value:
                    _check(value[field], inner, root, _below(place, field))
    if isinstance(value, dict):
        _check_others(value, [one for one, _root in schemas], known, whole, place)


def _check_others(
    value: Mapping[str, Any], schemas: list[Mapping[str, Any]], known: Mapping[str, Any], whole: Mapping[str, Any], place: str
) -> None:
    """Check the fields that the schema does not name. Raises MismatchError if it allows no others."""
    for one in schemas:
        allowed = one.get("additionalProperties", one.get("unevaluatedProperties", True))
        if allowed is True:
            continue
        for field in value.keys() - known.keys():
            if allowed is False:
                raise MismatchError(f"{_below(place, field[:60])} is unknown")
            _check(value[field], allowed, whole, _below(place, field[:60]))


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the schema and the schemas it refers to, each with the document in which its own references are resolved."""
    found = [(schema, whole)]
    while "$ref" in schema:
        urn, _hash, key = schema["$ref"].partition("#/$defs/")
        if urn:
            whole = _schema(urn.split(":")[2])
        schema = whole["$defs"][key]
        found.append((schema, whole))
    return found


def _fits(value: object, schema: Mapping[str, Any], whole: Mapping[str, Any], place: str) -> bool:
    try:
        _check(value, schema, whole, place)
    except MismatchError:
        return False
    return True


def _check_value(value: object, schema: Mapping[str, Any], place: str) -> None:
    """Raise MismatchError unless the value has an allowed type and is one of the choices and within the bounds."""
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if (kinds and not any(_is(value, kind) for kind in kinds)) or not _is_within(value, schema):
        raise MismatchError(f"{place} is invalid: it is {_shown(value)}, but must be {_allowed(kinds, schema)}")


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        return False
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, float) and not math.isfinite(value))


def _is_within(value: object, schema: Mapping[str, Any]) -> bool:
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None:
        return any(type(value) is type(choice) and value == choice for choice in choices)
    if isinstance(value, list):
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
    if isinstance(value, str):
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if isinstance(value, int | float):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _allowed(kinds: list[str], schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(choice) for choice in schema.get("enum", [schema.get("const")]))
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f", {least} to {most}" if most is not None else f", {least} or more" if least is not None else ""
    if "pattern" in schema:
        bounds = f" like {schema['pattern']}"
    if "minItems" in schema:
        bounds = f" of {schema['minItems']} {'items' if schema.get('maxItems') == schema['minItems'] else 'or more items'}"
    return " or ".join(_WORDS[kind] for kind in kinds) + bounds


def _below(place: str, field: str) -> str:
    return f"{place}.{field}" if place else field


def _shown(value: object) -> str:
    """Return a value as text of at most 60 characters."""
    if isinstance(value, dict | list):
        return f"{_WORDS['object' if isinstance(value, dict) else 'array']} of {len(value)}"
    try:
        text = json.dumps(value)
    except ValueError:  # an int with thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."

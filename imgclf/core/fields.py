"""Validate the values of a config: each has the type of its field and is within the field's bounds."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from imgclf.core.errors import ImgclfError, UsageError


@dataclasses.dataclass(frozen=True)
class Within:
    """Bounds of a number. above: exclude `least` itself. below: exclude `most` itself."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number is within the bounds; NaN never is."""
        is_enough = self.least < value if self.above else self.least <= value
        return is_enough and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        least, most = f"{self.least:.10g}", f"{'below ' if self.below else ''}{self.most:.10g}"
        if math.isinf(self.most):
            return f"above {least}" if self.above else f"{least} or more"
        return f"above {least} and {'' if self.below else 'up to '}{most}" if self.above else f"{least} to {most}"


@dataclasses.dataclass(frozen=True)
class _Field:
    kinds: tuple[type, ...]  # allowed types of the value
    choices: tuple[object, ...]  # values of a Literal
    within: Within | None
    optional: bool

    def holds(self, value: object) -> bool:
        if value is None:
            return self.optional
        if self.choices:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if isinstance(value, bool) and bool not in self.kinds:
            return False
        if isinstance(value, tuple) and not all(isinstance(one, str) for one in value):
            return False
        number = value if isinstance(value, int | float) else None
        return isinstance(value, self.kinds) and (number is None or self.within is None or self.within.holds(number))

    def __str__(self) -> str:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "several texts"}
        allowed = "one of " + ", ".join(map(str, self.choices)) if len(self.choices) > 1 else str(*self.choices)
        if not self.choices:
            allowed = f"{words[self.kinds[-1]]}{f', {self.within}' if self.within else ''}"
        return f"{allowed}, or none" if self.optional else allowed


def _fields(config: type) -> dict[str, _Field]:
    return {name: _field(hint) for name, hint in get_type_hints(config, include_extras=True).items()}


def _field(hint: Any) -> _Field:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [one for one in get_args(hint) if one is not types.NoneType]
        if len(inner) != 1:
            raise TypeError(f"{hint}: must be one type, or one type and None")
        return dataclasses.replace(_field(inner[0]), optional=True)
    if origin is Annotated:
        kind, *notes = get_args(hint)
        return dataclasses.replace(_field(kind), within=next(note for note in notes if isinstance(note, Within)))
    if origin is Literal:
        return _Field((), _flat(hint), None, False)
    if hint == tuple[str, ...]:
        return _Field((tuple,), (), None, False)
    if hint not in (bool, int, float, str):
        raise TypeError(f"{hint}: this type cannot be validated")
    return _Field((int, float) if hint is float else (hint,), (), None, False)


def _flat(hint: Any) -> tuple[object, ...]:
    return tuple(value for one in get_args(hint) for value in (_flat(one) if get_origin(one) is Literal else (one,)))


class Checked:
    """Base class of configs. The constructor refuses invalid values."""

    def __post_init__(self) -> None:
        """Raise UsageError for the first field with an invalid value."""
        for name, field in _fields(type(self)).items():
            value = getattr(self, name)
            if not field.holds(value):
                raise UsageError(f"{self._called(name)} must be {field}, not {_shown(value)}")

    @staticmethod
    def _called(name: str) -> str:
        """Return the name of a field in messages: by default, its command-line option."""
        return f"--{name.replace('_', '-')}"

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Build the config from the content of a file.

        Raises:
            UsageError: A field is missing, unknown or invalid.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"{cls.__name__}: expected a JSON object with {', '.join(_fields(cls))}, not {_shown(values)}")
        for name in values:
            if name not in _fields(cls):
                raise UsageError(f"{cls._called(name)} is unknown; allowed are {', '.join(_fields(cls))}")
        for name in _fields(cls):
            if name not in values:
                raise UsageError(f"{cls._called(name)} is missing")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check(name: str, value: object, hint: Any) -> None:
    """Raise UsageError unless the value of the option `name` fits `hint`, a type as in a config field."""
    field = _field(hint)
    if not field.holds(value):
        raise UsageError(f"--{name} must be {field}, not {_shown(value)}")


def wrong_content(file: Path, error: UsageError) -> ImgclfError:
    """Return the error for a file of a run with invalid content."""
    return ImgclfError(
        f"{file}: {error}; the file was edited or comes from another version of imgclf: update imgclf or train again"
    )


def bounds(config: type[Checked], name: str) -> dict[str, Any]:
    """Return the bounds of an int or float field as the arguments `min` and `max` of a Typer option."""
    within = _fields(config)[name].within
    if within is None:
        return {}
    return {key: value for key, value in (("min", within.least), ("max", within.most)) if math.isfinite(value)}


def _shown(value: object) -> str:
    """Return a value as text of at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an int with thousands of digits
        text = f"{type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."

"""`imgclf schema`: the JSON Schemas of all outputs."""

from collections.abc import Mapping
from typing import Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import data


def schema(name: Annotated[str | None, typer.Argument(help="Name of a schema; by default list all.")] = None) -> None:
    """Print the JSON Schemas of all outputs.

    Without a name, list all schemas. With a name, print that JSON Schema (draft 2020-12); it includes all schemas that it
    refers to.
    """
    from imgclf import schema as verb

    if name is None:
        print_schemas(verb.titles())
    else:
        console.as_json(verb.schema(name))


def print_schemas(titles: Mapping[str, str]) -> None:
    """Print one line per schema."""
    width = max(map(len, titles))
    for name, title in titles.items():
        data(f"{name:<{width}}  {title}")

"""A default stands in the config and nowhere else: every option that sets a field has the field's default."""

import dataclasses
import inspect
from typing import Any

import pytest

from imgclf.cli import audit, preview, serve, split, train
from imgclf.core.config import ServeConfig, SplitConfig, TrainConfig

# Options that are not the field itself: what they are instead.
OTHERWISE: dict[tuple[str, str], Any] = {
    ("train", "time_budget"): None,  # text such as 10m, seconds in the config
    ("split", "train"): None,  # a share that is not given follows from the others
    ("split", "val"): None,
    ("split", "test"): None,
    ("serve", "threshold"): None,  # text such as auto:0.95
    ("serve", "allowed_host"): None,  # a list that Typer makes; the config has a tuple
    ("serve", "proxy"): None,
    ("audit", "model"): "efficientnet-lite0",  # a backbone; a training begins from scratch
}


PAIRS = [
    (train.train, TrainConfig), (split.split, SplitConfig), (serve.serve, ServeConfig), (preview.preview, TrainConfig),
    (audit.audit, TrainConfig),
]  # fmt: skip


@pytest.mark.parametrize(("command", "config"), PAIRS)
def test_options_have_the_defaults_of_the_config(command: Any, config: Any) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    options = inspect.signature(command).parameters
    shared = fields.keys() & options.keys()
    assert len(shared) >= 3
    for name in shared:
        expected = OTHERWISE.get((command.__name__, name), fields[name])
        assert options[name].default == expected, name
        assert type(options[name].default) is type(expected), name


def test_every_field_of_a_config_has_an_option() -> None:
    for command, config in ((train.train, TrainConfig), (split.split, SplitConfig), (serve.serve, ServeConfig)):
        assert {field.name for field in dataclasses.fields(config)} <= inspect.signature(command).parameters.keys()

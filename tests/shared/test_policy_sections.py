"""Policies: what they accept, what they suggest, and the files that they are written to."""

import re
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy, from_toml, template, to_toml
from fedmq_schemas.policy import Policy

FULL: dict[str, Any] = {
    "name": 'north\n"sites"',
    "rounds": 7,
    "train": {"epochs": 2, "layers": [1, 2.5], "deep": {"a b": True, "list": [{"q": 1}]}},
    "schedule": {"rate": {"1": 0.1, "20": 0.01}},
    "clients": {"where": {"site": "north"}, "exclude": ["c1"], "fraction": 0.5},
    "package": "a" * 64,
    "tensors": {"share": ["body/*"], "local": ["head/*"], "frozen": []},
    "update": {"clip_norm": 1.5, "max_norm": 9.0},
    "select": {"metric": "test/accuracy", "mode": "max"},
    "stop": {"patience": 3, "min_delta": 0.001, "target": 0.95, "max_time": 3600.0},
    "random_seed": 4,
}


def test_a_policy_comes_back_from_its_file_as_it_was() -> None:
    policy = checked_policy(FULL)
    assert checked_policy(from_toml(to_toml(policy))) == policy
    assert checked_policy(from_toml(to_toml(Policy()))) == Policy()


def test_the_template_names_every_key_and_its_defaults_are_the_defaults() -> None:
    text = template()
    active = re.sub(r"(?m)^# (\w+ = )(?! )", r"\1", text)
    assert checked_policy(from_toml(active)) == Policy()
    for name in Policy.model_fields:
        assert re.search(rf"(?m)^(# {name} =|\[{name}\])", text), name


def test_a_key_of_a_section_is_suggested_with_its_section() -> None:
    with pytest.raises(ConfigError, match="did you mean 'clients.fraction'"):
        checked_policy({"fraction": 0.5})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"rounds": True}, "rounds"),
        ({"rounds": "3"}, "rounds"),
        ({"schedule": {"rate": {"first": 1.0}}}, "keys are round numbers, from 1"),
        ({"schedule": {"rate": {"0": 1.0}}}, "keys are round numbers, from 1"),
        ({"clients": {"fraction": 0}}, "clients.fraction"),
        ({"package": "abc"}, "package"),
        ({"update": {"clip_norm": 0}}, "update.clip_norm"),
        ({"select": {"mode": "most"}}, "select.mode"),
        ({"stop": {"patience": 0}}, "stop.patience"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        checked_policy(values)


def test_a_file_that_is_no_toml_is_refused_with_the_place() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        from_toml("rounds = 3\ntrain == 1\n")

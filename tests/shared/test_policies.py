"""Policies: what they accept, what they suggest, and how they are read from options and files."""

import re
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy, from_toml, template, to_toml, with_settings
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


def test_a_setting_reaches_into_sections_and_is_read_as_toml() -> None:
    values = with_settings({"rounds": 3}, ["train.epochs=2", "train.rate=1e-2", "name=north", "train.layers=[1, 2]"])
    assert values == {"rounds": 3, "name": "north", "train": {"epochs": 2, "rate": 0.01, "layers": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [(".1", 0.1), ("1.", 1.0), ("1e-3", 0.001), ("-.5", -0.5), ("+.5e2", 50.0), ("1.e2", 100.0), ("2", 2)],
)
def test_a_number_is_read_as_people_write_it(text: str, value: float) -> None:
    found = with_settings({}, [f"train.learning_rate={text}"])["train"]["learning_rate"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".", "1.2.3", "e3", "1e", "- 5", "one", "v1."])
def test_what_is_no_number_is_a_text(text: str) -> None:
    assert with_settings({}, [f"train.name={text}"])["train"] == {"name": text}


def test_a_setting_leaves_the_given_values_alone() -> None:
    given = {"train": {"epochs": 1}}
    assert with_settings(given, ["train.epochs=2"])["train"] == {"epochs": 2}
    assert given == {"train": {"epochs": 1}}


@pytest.mark.parametrize("setting", ["rounds", "=3", "train.=3", ".epochs=3"])
def test_a_setting_of_another_form_is_refused_with_the_form(setting: str) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        with_settings({}, [setting])


def test_a_setting_inside_of_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'rounds' is a value"):
        with_settings({"rounds": 3}, ["rounds.first=1"])


def test_all_faults_of_a_policy_are_reported_at_once_with_suggestions() -> None:
    with pytest.raises(ConfigError) as caught:
        checked_policy({"rounds": 0, "strategy": {"nme": "fedadam"}, "weighting": "sometimes"})
    assert "rounds: must be greater than or equal to 1 (not 0)" in caught.value.reason
    assert "strategy: unknown key 'nme': did you mean 'name'?" in caught.value.reason
    assert "examples, equal, or capped:N" in caught.value.reason


def test_all_unknown_keys_of_a_section_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"'rouns': did you mean 'rounds'.; unknown key 'sed': did you mean 'seed'"):
        checked_policy({"rouns": 3, "sed": "a"})


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
    with pytest.raises(ConfigError, match=r"did you mean 'clients.fraction'"):
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

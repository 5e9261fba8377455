"""Policies from options and files."""

import pytest

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy, with_settings


def test_a_setting_reaches_into_sections_and_is_read_as_toml() -> None:
    values = with_settings({"rounds": 3}, ["train.epochs=2", "train.rate=1e-2", "name=north", "train.layers=[1, 2]"])
    assert values == {"rounds": 3, "name": "north", "train": {"epochs": 2, "rate": 0.01, "layers": [1, 2]}}


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


def test_all_faults_of_a_policy_are_told_at_once_with_what_was_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        checked_policy({"rounds": 0, "strategy": {"nme": "fedadam"}, "weighting": "sometimes"})
    assert "rounds: must be greater than or equal to 1 (not 0)" in caught.value.reason
    assert "strategy: unknown key 'nme': did you mean 'name'?" in caught.value.reason
    assert "examples, equal, or capped:N" in caught.value.reason


def test_all_unknown_keys_of_a_section_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="'rouns': did you mean 'rounds'.; unknown key 'sed': did you mean 'seed'"):
        checked_policy({"rouns": 3, "sed": "a"})

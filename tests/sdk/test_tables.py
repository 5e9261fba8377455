"""Tables of the SDK as DataFrames."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from fedmq_sdk import ConfigError
from fedmq_sdk.tables import Table


def test_a_table_is_a_list_and_becomes_a_frame_with_a_column_a_field() -> None:
    table = Table([{"round": 1, "accepted": 3}, {"round": 2, "accepted": 2, "mse": 0.5}])
    assert table == [{"round": 1, "accepted": 3}, {"round": 2, "accepted": 2, "mse": 0.5}]
    frame = table.to_pandas()
    assert list(frame.columns) == ["round", "accepted", "mse"]
    assert frame["accepted"].sum() == 5
    assert frame["mse"].isna().tolist() == [True, False]


def test_a_table_without_rows_is_an_empty_frame() -> None:
    assert Table().to_pandas().empty


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def lacking(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ConfigError, match=r"pip install 'fedmq\[pandas\]'"):
        Table([{"round": 1}]).to_pandas()

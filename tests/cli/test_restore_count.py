"""The refusal to restore into an alliance that holds one session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq_cli.backup.restoring import _check_empty


def test_one_session_is_counted_in_the_singular() -> None:
    target: Any = SimpleNamespace(name="a", records=SimpleNamespace(get=lambda *_: None, count=lambda _: 1))
    with pytest.raises(ConfigError, match=r"it has 1 session\."):
        _check_empty(target, {})

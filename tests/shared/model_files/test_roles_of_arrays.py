"""Roles that are stated beside arrays, or beside a file that has no room for them."""

from pathlib import Path

import numpy as np
import pytest

from fedmq.errors import ConfigError
from fedmq.model_files import formats


def test_opaque_arrays_keep_their_bytes() -> None:
    raw = np.array([np.nan, 1], np.float16)
    found = formats.from_arrays({"raw": raw, "half": np.ones(2, np.float16)}, {"raw": "opaque"})
    assert [str(found.weights[name].dtype) for name in ("raw", "half")] == ["float16", "float32"]
    assert found.weights["raw"].tobytes() == raw.tobytes() and found.meta == {"roles": {"raw": "opaque"}}


def test_roles_are_added_to_those_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", ids=np.arange(3), w=np.ones(2))
    found = formats.read(tmp_path / "m.npz")
    assert found.with_roles({}) is found
    assert found.with_roles({"ids": "constant"}).with_roles({"w": "statistic"}).meta["roles"] == {
        "ids": "constant",
        "w": "statistic",
    }
    with pytest.raises(ConfigError, match="'w' of dtype float64 can be trainable or statistic"):
        found.with_roles({"w": "counter"})

"""The rule that `docs/how-to/add-an-aggregation-rule.md` adds, made from the page itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fedmq.aggregation import Rule

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-an-aggregation-rule.md"


def documented_median() -> type[Rule]:
    """Returns the class that the page's code defines."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "fedmq.aggregation.median"}
    exec(compile(code, str(PAGE), "exec"), names)
    median: type[Rule] = names["Median"]
    return median

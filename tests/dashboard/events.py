"""Events as the records hold them."""

from __future__ import annotations

from typing import Any


def event(name: str, at: float, round_number: int | None = 1, client: str | None = None, **data: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-{at}-{client}",
        "name": name,
        "session": "s" if round_number is not None else None,
        "round": round_number,
        "client": client,
        "combiner": None,
        "at": at,
        "sender": "x",
        "cause": None,
        "data": data,
    }

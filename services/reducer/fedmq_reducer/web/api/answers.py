"""The form of answers: JSON that always parses, pages of a list, and errors that say what to change."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from fedmq.errors import ConfigError, FedMQError, Gone, InvalidUpdate, NotFound, ProtocolError, Transient
from fedmq.policies import words_of
from fedmq.records.base import Records
from fedmq_schemas.limits import LARGEST_INTEGER

MOST = 1000

NAME = SESSION = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
MODEL = r"^[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}$"
SEED = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
CURSOR = r"^-?[0-9.e+-]{1,30}$"
_FORMS = {
    SESSION: "session's id: that is up to 64 letters, digits, `-` and `_`, a letter or digit first",
    MODEL: "model's id: that is up to 200 characters without `/` and `\\`, no dot first",
    SEED: "model's name: that is up to 100 letters, digits, `.`, `-` and `_`, a letter or digit first",
    CURSOR: "`next` of a page",
    r"^[0-9a-f]{64}$": "package's sha256: that is 64 hexadecimal digits, which `fedmq check` prints",
}

SessionId = Annotated[str, Path(pattern=SESSION, description="a session's id", examples=["s1"])]
ModelId = Annotated[str, Path(pattern=MODEL, description="a model's id", examples=["seed-1"])]
Limit = Annotated[int, Query(ge=1, le=MOST, description="most items in the answer")]
After = Annotated[str | None, Query(description="the `next` of the page before", pattern=CURSOR)]
AfterName = Annotated[str | None, Query(description="the `next` of the page before", max_length=100)]


class Json(JSONResponse):
    """JSON in which NaN and the infinities are the texts `NaN`, `Infinity`, `-Infinity`, as JSON has no such numbers."""

    def render(self, content: Any) -> bytes:
        """Returns the bytes of the body."""
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def page(
    records: Records,
    table: str,
    where: Mapping[str, Any],
    *,
    order: str | None = None,
    descending: bool = False,
    limit: int,
    after: str | None,
) -> dict[str, Any]:
    """Returns `items` in the order of a field (by default of the key), and `next`, which is None on the last page.

    A page is longer than `limit` if several items share its last value of the order: no item is lost between two pages.
    """
    wanted = {name: value for name, value in where.items() if value is not None}
    start = _cursor(after) if order is not None else after
    found = list(records.find(table, wanted, order=order, descending=descending, limit=limit + 1, after=start))
    if len(found) <= limit:
        return {"items": found, "next": None}
    items = found[:limit]
    if order is None:
        return {"items": items, "next": str(items[-1][table.removesuffix("s")])}
    last = items[-1][order]
    if found[limit][order] == last:
        before = [item for item in items if item[order] != last]
        items = [*before, *records.find(table, wanted | {order: last})]
    return {"items": items, "next": json.dumps(last)}


def _cursor(after: str | None) -> Any:
    if after is None:
        return None
    try:
        number = json.loads(after)
    except ValueError:
        number = math.inf
    if not -LARGEST_INTEGER <= number <= LARGEST_INTEGER:  # a store can't compare with more than 64 bits
        raise ConfigError(f"after: {after!r} is not the `next` of a page")
    return number


def add_error_answers(app: FastAPI) -> None:
    """Makes the app answer each error with `{"error": one text}`, and with the status of the error's class."""

    @app.exception_handler(FedMQError)
    def refused(_: Request, error: FedMQError) -> Json:
        return Json({"error": error.reason}, _status_of(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Json:
        return Json({"error": "\n".join(_fault(fault) for fault in error.errors())}, 422)


def _status_of(error: FedMQError) -> int:
    match error:
        case Gone():
            return 410
        case NotFound():
            return 404
        case ConfigError() | ProtocolError() | InvalidUpdate():
            return 422
        case Transient():
            return 503
    return 409


def _fault(fault: Mapping[str, Any]) -> str:
    """Returns what is wrong with which parameter, from an error of pydantic."""
    where = ".".join(str(step) for step in fault["loc"][1:])
    match fault["type"]:
        case "json_invalid":
            return f"the body is not JSON: {fault['ctx']['error']}, at character {where}"
        case "dict_type" | "model_type" | "model_attributes_type" if not where:
            return 'the body must be a JSON object, sent as application/json: {"rounds": 5}'
        case "string_pattern_mismatch" if form := _FORMS.get(fault["ctx"]["pattern"]):
            return f"{where}: {fault['input']!r} is no {form}"
    words = words_of(fault)
    return f"{where}: {words}" if where else words

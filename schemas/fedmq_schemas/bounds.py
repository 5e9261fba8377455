"""The types of all that peers send: whatever keeps to them can be recorded, summed, read back and shown.

Numbers are finite, integers fit into 64 bits, no text holds NUL or half of a pair of surrogates, and texts, maps and lists
are limited. The JSON Schemas state the same limits, except how deep a `Plain` is nested and how much it holds in all.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, GetPydanticSchema
from pydantic_core import CoreSchema, InitErrorDetails, ValidationError, core_schema

from fedmq_schemas.limits import (
    DEEPEST,
    DEEPEST_DATA,
    LARGEST,
    LARGEST_INTEGER,
    LONGEST_KEY,
    LONGEST_LABEL,
    LONGEST_REASON,
    LONGEST_TEXT,
    MOST_LABELS,
    MOST_METRICS,
    MOST_VALUES,
    check_key,
    check_plain,
    safe,
)

MAX_LISTED_CLIENTS = 500
EXACT = 2**53 - 1
"""The largest integer up to which a double, and so JavaScript, is exact."""
DAYS = 86_400.0
LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970."""
_NO_NUL = r"^[^\x00]*$"


def text(longest: int, least: int = 0) -> Any:
    """Returns the limits of a text without NUL, for `Annotated`. Surrogates are refused in every text with a limit."""
    return Field(min_length=least or None, max_length=longest, pattern=_NO_NUL)


def _number(least: float, most: float) -> Any:
    return Field(ge=least, le=most, allow_inf_nan=False)


def items(most: int | None = None, least: int | None = None) -> Any:
    """Returns the limits of a tuple, for `Annotated`. A message has lists, which a strict tuple does not accept."""
    return Field(min_length=least, max_length=most, strict=False)


def _whole(value: Any) -> Any:
    """Returns a float without a fraction as an integer, which JSON Schema says it is; any other value as it is."""
    return int(value) if type(value) is float and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For `Annotated`, behind an integer's limits: it may be written as `5` or `5.0`."""


# -- texts --------------------------------------------------------------------------------------------------------------

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, text(255)]
MapKey = Annotated[str, text(LONGEST_KEY, 1)]
MessageId = Annotated[str, text(200, 1)]
BlobKey = Annotated[str, text(1024, 1)]
BlobUrl = Annotated[str, text(8192)]
Reason = Annotated[str, text(LONGEST_REASON)]
Traceback = Annotated[str, text(LONGEST_TEXT)]

# -- numbers ------------------------------------------------------------------------------------------------------------

Finite = Annotated[float, _number(-LARGEST, LARGEST)]
Seconds = Annotated[float, _number(0, 366 * DAYS)]
"""A duration."""
Period = Annotated[float, _number(0.001, 366 * DAYS)]
"""A duration that is never 0."""
Clock = Annotated[float, _number(0, LAST_SECOND)]
"""A time in UTC seconds since 1970."""
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
Norm = Annotated[float, _number(0, LARGEST)]
Integer = Annotated[int, Field(ge=-LARGEST_INTEGER - 1, le=LARGEST_INTEGER), WHOLE]
Count = Annotated[int, Field(ge=0, le=EXACT), WHOLE]
AtLeastOne = Annotated[int, Field(ge=1, le=EXACT), WHOLE]
"""How many there are of what there is at least one of; or which one, from 1."""
Total = Annotated[int, Field(ge=0, le=LARGEST_INTEGER), WHOLE]
Weight = Annotated[int, Field(ge=1, le=EXACT), WHOLE]
Index = Annotated[int, Field(ge=0, le=1_000_000), WHOLE]
"""The number of a round, a part, or a client among others."""
Exponent = Annotated[int, Field(ge=-1100, le=1100), WHOLE]
Version = Annotated[int, Field(ge=0, le=1000), WHOLE]

# -- what JSON can say --------------------------------------------------------------------------------------------------


def plain_json(inside: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON Schema of a `Plain` whose lists and maps hold `inside`."""
    limits: list[dict[str, Any]] = [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer", "minimum": -LARGEST_INTEGER - 1, "maximum": LARGEST_INTEGER},
        {"type": "number", "minimum": -LARGEST, "maximum": LARGEST},
        {"type": "string", "maxLength": LONGEST_TEXT, "pattern": _NO_NUL},
        {"type": "array", "maxItems": MOST_VALUES, "items": inside},
        {"type": "object", "maxProperties": MOST_VALUES, **_named(inside)},
    ]
    return {"anyOf": limits}


def _named(inside: dict[str, Any]) -> dict[str, Any]:
    key = {"minLength": 1, "maxLength": LONGEST_KEY, "pattern": _NO_NUL}
    return {"propertyNames": key, "additionalProperties": inside}


def _with_name(held: dict[Any, Any], error: ValueError, deepest: int) -> ValueError:
    """Returns the error of a map with the name of its first value that is beyond the limits."""
    for name, value in held.items():
        try:
            check_key(name)
            check_plain(value, deepest - 1)
        except ValueError as fault:
            place = (safe(str(name))[:50],)
            details = InitErrorDetails(type="value_error", loc=place, input=None, ctx={"error": fault})
            return ValidationError.from_exception_data("map", [details])
    return error


def _plain(deepest: int, most: int | None = None) -> Any:
    """Returns the schema of a `Plain`, or of a map of at most `most` keys whose values are such."""

    def check(value: Any) -> Any:
        if most is not None and not isinstance(value, dict):
            raise ValueError("it is no map")
        if most is not None and len(value) > most:
            raise ValueError(f"it has {len(value)} keys, more than {most}")
        try:
            return check_plain(value, deepest)
        except ValueError as error:
            raise (error if most is None else _with_name(value, error, deepest)) from None

    def in_json(_: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        return plain_json({}) if most is None else {"type": "object", "maxProperties": most, **_named(plain_json({}))}

    found = core_schema.no_info_plain_validator_function(check, metadata={"pydantic_js_functions": [in_json]})
    return GetPydanticSchema(lambda _, __: found)


Plain = Annotated[Any, _plain(DEEPEST)]
"""A value of JSON: text, number, bool, None, or lists and maps of these."""
Metrics = Annotated[dict[str, Any], _plain(DEEPEST + 1, MOST_METRICS)]
Config = Annotated[dict[str, Any], _plain(DEEPEST + 1, MOST_METRICS)]
Data = Annotated[dict[str, Any], _plain(DEEPEST_DATA, 64)]
LabelMap = Annotated[dict[MapKey, Annotated[str, text(LONGEST_LABEL)]], Field(max_length=MOST_LABELS)]
Timings = Annotated[dict[MapKey, Seconds], Field(max_length=32)]
OutcomeCounts = Annotated[dict[MapKey, Count], Field(max_length=32)]
Listed = Annotated[tuple[Name, ...], items(MAX_LISTED_CLIENTS)]

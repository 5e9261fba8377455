"""Each type of what peers send accepts its limits and refuses what is beyond, in the code and in the JSON Schemas."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from fedmq_schemas import bounds, generate
from fedmq_schemas.limits import DEEPEST, LARGEST, MOST_VALUES, check_plain
from fedmq_schemas.messages import BODIES
from fedmq_schemas.policy import Policy

NAN, INF = float("nan"), float("inf")
HALF = "\ud800"


def nested(levels: int) -> Any:
    """Returns a number within this many lists."""
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


ROWS: list[tuple[str, list[Any], list[Any]]] = [
    ("Word", ["", "x" * 255, "ä"], ["x" * 256, "a\0b", HALF, 1]),
    ("MapKey", ["x", "x" * 128, "$x.y"], ["", "x" * 129, "\0", HALF]),
    ("MessageId", ["x" * 200], ["", "x" * 201, "\0"]),
    ("BlobKey", ["updates/x"], ["", "x" * 1025, "a\0"]),
    ("BlobUrl", ["", "http://x"], ["x" * 8193, "\0"]),
    ("Reason", ["", "x" * 2000], ["x" * 2001, "\0", HALF]),
    ("Traceback", ["x\n" * 100], ["x" * 65_537, "\0"]),
    ("Finite", [0, -LARGEST, LARGEST], [NAN, INF, -INF, 1.1e100, -1.7e308]),
    ("Seconds", [0, 0.5, 366 * 86_400], [-0.1, NAN, INF, 2**63]),
    ("Period", [0.001, 3600.0], [0, NAN, INF, 2**63]),
    ("Clock", [0, 1.8e9], [-1, NAN, INF, 1e12, 1e308]),
    ("Positive", [1e-9, LARGEST], [0, -1, NAN, INF]),
    ("Norm", [0, 1.5], [-1, NAN, INF, 1e101]),
    ("Integer", [-(2**63), 2**63 - 1], [2**63, -(2**63) - 1]),
    ("Count", [0, 2**53 - 1], [-1, 2**53]),
    ("Total", [0, 2**63 - 1], [-1, 2**63]),
    ("Weight", [1, 2**53 - 1], [0, -1, 2**53, 2**64]),
    ("Index", [0, 1_000_000], [-1, 1_000_001]),
    ("Exponent", [-1100, 1100], [1101, -1101]),
    ("Version", [0, 1000], [-1, 1001]),
    ("LabelMap", [{}, {"site": "x" * 256}], [{"site": "x" * 257}, {"": "x"}, {"\0": "x"}, {"s": "\0"}, {"s": HALF}]),
    ("LabelMap", [{f"l{n}": "" for n in range(64)}], [{f"l{n}": "" for n in range(65)}]),
    ("Timings", [{"train": 1.5}], [{"train": NAN}, {"train": -1.0}, {"t\0": 1.0}, {f"s{n}": 1.0 for n in range(33)}]),
    ("OutcomeCounts", [{"accepted": 2}], [{"accepted": -1}, {"\0": 1}, {"accepted": 2**64}]),
    ("Listed", [["c"] * 500], [["c"] * 501, ["-"]]),
    ("Metrics", [{}, {"loss": 0.5, "by": {"class": [1, None, True, "x"]}}], [[], {"loss": NAN}, {"x": {"y": [INF]}}]),
    ("Metrics", [{"x": nested(DEEPEST)}, {f"m{n}": 1 for n in range(500)}], [{f"m{n}": 1 for n in range(501)}]),
    ("Metrics", [{"x": 2**63 - 1}, {"x": -LARGEST}], [{"x": 1.7e308}, {"x": "\0"}, {"\0": 1}, {"": 1}, {"x" * 129: 1}]),
    ("Metrics", [{"x": {"y" * 128: 1}}], [{"x": {"\0": 1}}, {"x": {"y" * 129: 1}}, {"x": HALF}, {"x": {HALF: 1}}]),
    ("Plain", [None, True, 1, 0.5, "x", [], {}, nested(DEEPEST)], [NAN, INF, "\0", {"": 1}]),
    ("Data", [{"metrics": {"x": nested(DEEPEST)}}, {f"k{n}": 1 for n in range(64)}], [{f"k{n}": 1 for n in range(65)}]),
]


def strict_schema(name: str) -> dict[str, Any]:
    """Returns the JSON Schema of a type as the documents in `json/` state it."""
    found: dict[str, Any] = generate.strict({"$defs": {}, **TypeAdapter(getattr(bounds, name)).json_schema()})
    return found


@pytest.mark.parametrize(("name", "accepted", "refused"), ROWS, ids=[row[0] for row in ROWS])
def test_a_type_and_its_schema_accept_its_limits_and_refuse_what_is_beyond(
    name: str, accepted: list[Any], refused: list[Any]
) -> None:
    adapter, schema = TypeAdapter(getattr(bounds, name)), jsonschema.Draft202012Validator(strict_schema(name))
    for value in accepted:
        adapter.validate_python(value)
        schema.validate(value)
    for value in refused:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
        if is_json(value):
            assert not schema.is_valid(value), value


def is_json(value: Any) -> bool:
    """Whether a JSON document can hold the value; it has neither NaN nor halves of characters."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def test_what_a_schema_can_not_state_of_a_plain_value_the_code_refuses() -> None:
    adapter = TypeAdapter(bounds.Metrics)
    for beyond in (
        {"x": nested(DEEPEST + 1)},
        {"x": 2**63},
        {"x": [0] * (MOST_VALUES + 1)},
        {"a": [0] * (MOST_VALUES // 2), "b": [0] * (MOST_VALUES // 2 + 1)},
        {"x": b"bytes"},
        {1: 1},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(beyond)


def test_a_value_nested_without_end_is_refused_without_recursion() -> None:
    with pytest.raises(ValueError, match="nested more than 20 deep"):
        check_plain(nested(100_000))


def test_a_fault_in_a_metric_is_reported_with_its_name() -> None:
    with pytest.raises(ValidationError, match=r"(?s)confusion\n.*nan is no finite number of at most 1e\+100"):
        TypeAdapter(bounds.Metrics).validate_python({"loss": 0.5, "confusion": [[1.0, NAN]]})


def test_metrics_that_a_message_can_hold_can_be_in_an_event() -> None:
    """An update whose metrics are accepted is followed by an event that repeats them."""
    for metrics in ({"x": nested(DEEPEST)}, {f"m{n}": [0] * 70 for n in range(500)}):
        TypeAdapter(bounds.Metrics).validate_python(metrics)
        TypeAdapter(bounds.Data).validate_python({"metrics": metrics})


LARGE_SUM = 1_000_000 * (2**53 - 1) * LARGEST**2


def test_the_squares_of_a_million_metrics_times_the_greatest_weight_have_a_finite_sum() -> None:
    assert math.isfinite(LARGE_SUM)


def places(node: Any, where: str = "") -> list[str]:
    """Returns the places of a schema that limit nothing: text without length, number or list or map without limit."""
    if isinstance(node, list):
        return [place for number, each in enumerate(node) for place in places(each, f"{where}.{number}")]
    if not isinstance(node, dict):
        return []
    kind, found = node.get("type"), []
    limits = {
        "string": ("maxLength", "pattern", "enum", "const"),
        "number": ("maximum",),
        "integer": ("maximum", "const", "enum"),
        "array": ("maxItems",),
        "object": ("maxProperties", "properties"),
    }
    if isinstance(kind, str) and kind in limits and not any(limit in node for limit in limits[kind]):
        found = [where]
    return found + [place for key, each in node.items() for place in places(each, f"{where}.{key}")]


BOUND_BY_THE_SIZE_OF_A_MESSAGE = {"exponents", "events", "plans", "share", "local", "frozen", "exclude"}


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_field_of_every_message_has_a_limit(kind: str) -> None:
    unlimited = places(generate.message_schema(kind))
    assert [place for place in unlimited if place.rpartition(".")[2] not in BOUND_BY_THE_SIZE_OF_A_MESSAGE] == []


def test_a_policy_refuses_numbers_that_are_not_finite() -> None:
    for wrong in (
        {"timeout": NAN},
        {"wait": INF},
        {"stop": {"target": NAN}},
        {"stop": {"min_delta": INF}},
        {"stop": {"max_time": INF}},
        {"update": {"clip_norm": NAN}},
        {"clients": {"fraction": NAN}},
        {"train": {"lr": NAN}},
        {"strategy": {"parameters": {"tau": INF}}},
        {"random_seed": 2**63},
        {"name": "a\0b"},
        {"weighting": f"capped:{10**12}"},
        {"max_weight": 0},
    ):
        with pytest.raises(ValidationError):
            Policy.model_validate(wrong)

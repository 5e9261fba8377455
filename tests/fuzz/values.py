"""Values drawn from the JSON Schemas of the messages: valid ones, and documents with a part that is hostile."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgpack

import fedmq_schemas

Schema = dict[str, Any]
_JSON = Path(fedmq_schemas.__file__).parent / "json"
_DEEPEST = 4


@cache
def schema_of(kind: str) -> Schema:
    """Returns the JSON Schema of a kind of message: of the envelope with its body."""
    schema: Schema = json.loads((_JSON / f"{kind}.json").read_text())
    return schema


@cache
def kinds() -> tuple[str, ...]:
    """Returns the names of all kinds of messages."""
    return tuple(sorted(path.stem for path in _JSON.glob("*.json")))


def nested(levels: int, inside: Any = 1) -> Any:
    """Returns lists in lists, so many deep."""
    value = inside
    for _ in range(levels):
        value = [value]
    return value


FACE = "\N{PILE OF POO}"
NUMBERS: tuple[Any, ...] = (
    *(float("nan"), float("inf"), float("-inf"), 1.7e308, -1.7e308, 1e101, 1e100, 5e-324, -0.0, 0.5),
    *(2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**400, 2**53, 2**53 - 1, 2**31, -1, 0, 1),
    *(1_000_001, 31_622_401, 253_402_300_800, True, False),
)
TEXTS: tuple[Any, ...] = (
    *("", "\0", "a\0b", "\ud800", "a\udfffb", FACE * 64, FACE * 255, "x" * 255, "x" * 256, "x" * 2001, "y" * 60_000),
    *("../../etc/passwd", "<script>alert(1)</script>", "a.b", "#", "*", "-", ".", "-a", "a b", "a\n", "\u202e", "NaN"),
    *("reducer", "servers", "updates/", "models/seed", "updates/session1/000001/client1-1", "1", "null", "\x7f" * 64),
)
MAPS: tuple[Any, ...] = (
    *({}, {"": 1}, {"a\0b": 1}, {"\ud800": 1}, {"k" * 128: 1}, {"k" * 129: 1}, {"k" * 60_000: 1}, {"a.b": 1}),
    *({"_id": 1}, {"$where": "1"}, {"$float": "nan"}, {"$float": ["nan"]}, {"__proto__": {}}, {FACE * 32: 0.5}),
    *({"x": 1.7e308}, {"loss": float("nan")}, {"loss": 2**63}, {f"k{n}": n for n in range(501)}),
    *({f"k{n}": 0.5 for n in range(65)}, {"x": nested(19)}, {"x": nested(21)}, {"x": nested(98)}),
)
OTHERS: tuple[Any, ...] = (
    *(None, [], [None], [0] * 9, ["x"] * 501, [0] * 40_001, nested(20), nested(21), nested(99), nested(100)),
    *(nested(500), b"", b"\xff\xfe", b"\0" * 300, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1), [["a", 1]]),
)
CRITICAL: tuple[Any, ...] = (
    *(float("nan"), float("inf"), 2**63, 2**64 - 1, -(2**63) - 1, 1.7e308, "\0", "a\0b", "\ud800", "y" * 60_000),
    *({"a\0b": 1}, {"loss": float("nan")}, {"loss": 2**63}, {"loss": 1.7e308}, {"_id": 1}, {"x": nested(98)}),
)
"""What has ended processes and sessions."""
HOSTILE: tuple[tuple[Any, ...], ...] = (CRITICAL, CRITICAL, NUMBERS, TEXTS, MAPS, OTHERS)
KEYS = ("", "\0", "a\0b", "\ud800", "k" * 128, "k" * 129, "_id", "$float", "a.b", FACE * 128)
_SHARED = {id(value) for values in HOSTILE for value in values if isinstance(value, dict | list)}
"""The maps and lists above, which many documents hold, so that none may change them."""


class Values:
    """Draws values from one seeded source. `names`: values that fit the alliance, by the name of a field."""

    def __init__(self, source: random.Random, names: Mapping[str, list[Any]]) -> None:
        self._source = source
        self._names = names

    def body(self, kind: str) -> Any:
        """Returns a body that is valid by its schema, as far as the schema states the limits."""
        schema = schema_of(kind)
        return self._valid(schema["properties"]["body"], schema.get("$defs", {}), "body", 0)

    def hostile(self) -> Any:
        """Returns a value that is beyond some limit of some field, or odd."""
        return self._source.choice(self._source.choice(HOSTILE))

    def mutate(self, document: Any) -> None:
        """Changes one place of a document, which is a map or a list: puts a hostile or foreign value, deletes or adds."""
        source, holder = self._source, document
        if id(document) in _SHARED:
            return
        while True:
            places: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            place = source.choice(places) if places else None
            inner = holder[place] if place is not None else None
            if not isinstance(inner, dict | list) or id(inner) in _SHARED or not inner or source.random() < 0.3:
                break
            holder = inner
        way = source.random()
        if place is None or way < 0.15:
            self._add(holder)
        elif way < 0.2:
            del holder[place]
        elif way < 0.3 and place in self._names:
            holder[place] = source.choice(self._names[place])
        elif way < 0.4 and isinstance(inner, int | float):
            holder[place] = source.choice([inner + 1, -inner, repr(inner)[:400]])
        else:
            holder[place] = self.hostile()

    def _add(self, holder: Any) -> None:
        value = self.hostile()
        if isinstance(holder, list):
            holder.append(value)
        else:
            key = self._source.choice(KEYS) if self._source.random() < 0.5 else self._word()
            holder[key] = value

    def _valid(self, schema: Schema, shared: Schema, name: str, depth: int) -> Any:
        source = self._source
        if "$ref" in schema:
            schema = shared[schema["$ref"].rpartition("/")[2]]
        if name in self._names and source.random() < 0.8:
            return source.choice(self._names[name])
        if "const" in schema or "enum" in schema:
            return source.choice(schema.get("enum") or [schema["const"]])
        if "anyOf" in schema:
            simple = [each for each in schema["anyOf"] if each.get("type") not in ("array", "object")]
            return self._valid(source.choice(schema["anyOf"] if depth < _DEEPEST else simple), shared, name, depth)
        if schema.get("type") == "object":
            return self._map(schema, shared, depth)
        if schema.get("type") == "array":
            return self._list(schema, shared, name, depth)
        return self._simple(schema)

    def _simple(self, schema: Schema) -> Any:
        source = self._source
        match schema.get("type"):
            case "integer":
                low, high = int(schema.get("minimum", -9)), int(schema.get("maximum", 2**53))
                return source.choice([low, high, min(high, low + source.randrange(1, 9)), min(high, max(low, 1))])
            case "number":
                low, high = schema.get("minimum", -1e100), schema.get("maximum", 1e100)
                return source.choice([low, high, source.uniform(low, min(high, low + 10.0)), min(high, 0.5)])
            case "boolean":
                return source.random() < 0.5
            case "null":
                return None
            case _:
                return self._text(schema)

    def _map(self, schema: Schema, shared: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        properties = schema.get("properties", {})
        found = {
            name: self._valid(inner, shared, name, depth + 1)
            for name, inner in properties.items()
            if name in required or self._source.random() < 0.5
        }
        inner = schema.get("additionalProperties")
        if isinstance(inner, dict):
            for _ in range(self._source.randrange(4)):
                found[self._word()] = self._valid(inner, shared, "", depth + 1)
        return found

    def _list(self, schema: Schema, shared: Schema, name: str, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self._valid(inner, shared, "", depth + 1) for inner in schema["prefixItems"]]
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        inner, count = schema.get("items", {}), self._source.randint(least, max(least, min(most, 3)))
        return [self._valid(inner, shared, name.removesuffix("s"), depth + 1) for _ in range(count)]

    def _text(self, schema: Schema) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
        if "[0-9a-f]{64}" in schema.get("pattern", ""):
            return f"{self._source.getrandbits(256):064x}"
        if self._source.random() < 0.1 and "maxLength" in schema:
            return "x" * min(int(most), 3000)
        text = self._word() if self._source.random() < 0.9 else FACE
        return text[:most] or "x" * least

    def _word(self) -> str:
        return "".join(self._source.choices(string.ascii_lowercase + string.digits, k=self._source.randrange(1, 9)))

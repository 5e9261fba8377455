"""Draws documents from a JSON Schema: valid ones, and ones with one or two values that the schema need not accept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SOME_PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e100, 1e100) | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_TEXT.filter(bool), inner, max_size=3),
    max_leaves=6,
)


def nested(levels: int) -> Any:
    """Returns a number within this many lists."""
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


HOSTILE: list[Any] = [
    *(None, True, False, b"bytes", [], {}, [1], ["x"], {"a": 1}, {"": 1}, {"a\0": 1}, {"x" * 129: 1}),
    *(0, 1, -1, 1001, 2**53, 2**63, 2**64 - 1, -(2**63), 0.0, 1.0, 0.5, -0.5, 1e100, 1e101),
    *(
        "",
        "1",
        "x",
        "a b",
        "name\n",
        "-a",
        "a\0b",
        "é",
        "x" * 65,
        "x" * 256,
        "x" * 2001,
        "f" * 64,
        "capped:5",
        "capped:0",
    ),
    *(["a"] * 501, [[]], [0, 0], [0, 1, 2], {str(n): 1 for n in range(65)}, {"1": 0.1, "0": 1}, nested(25)),
]
"""Values that a careless or hostile peer puts in a field. NaN, infinity and lone surrogates no JSON document can hold."""


DELETED, UNKNOWN = object(), object()


def full(schema: dict[str, Any], root: dict[str, Any]) -> Any:  # noqa: PLR0911 (a table: one return a type)
    """Returns a document that a schema accepts, with every field and one item in each list and map."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {"list": [1, None]} if name == "Plain" else full(root["$defs"][name], root)
    if "anyOf" in schema:
        return full(schema["anyOf"][0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema["type"]:
        case "object":
            named = {name: full(each, root) for name, each in schema.get("properties", {}).items()}
            others = schema.get("additionalProperties")
            return named | ({_key(schema): full(others, root)} if isinstance(others, dict) else {})
        case "array":
            return [full(each, root) for each in schema.get("prefixItems", [schema.get("items")])]
        case "string":
            return schema.get("default") or ("f" * 64 if "[0-9a-f]" in schema.get("pattern", "") else "text")
        case "integer" | "number":
            return max(1, schema.get("minimum", 0))
        case "boolean":
            return False
    raise NotImplementedError(schema)


def _key(schema: dict[str, Any]) -> str:
    names = schema.get("propertyNames", {})
    return str(names["enum"][0]) if "enum" in names else "1"


def valid(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Returns a strategy for documents that a schema accepts. `root` holds its `$defs`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return SOME_PLAIN if name == "Plain" else st.deferred(lambda: valid(root["$defs"][name], root))
    if "anyOf" in schema:
        return st.one_of([valid(each, root) for each in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    return _OF_TYPE[schema["type"]](schema, root)


def _number(schema: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[float]:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    return st.floats(least, schema["maximum"], exclude_min="exclusiveMinimum" in schema)


def _list(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    if "prefixItems" in schema:
        return st.tuples(*(valid(each, root) for each in schema["prefixItems"])).map(list)
    least = schema.get("minItems", 0)
    return st.lists(valid(schema["items"], root), min_size=least, max_size=max(least, 3))


def _map(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    known = {name: valid(each, root) for name, each in schema.get("properties", {}).items()}
    required = {name: each for name, each in known.items() if name in schema.get("required", ())}
    fixed = st.fixed_dictionaries(required, optional={n: each for n, each in known.items() if n not in required})
    if not isinstance(others := schema.get("additionalProperties"), dict):
        return fixed
    keys = _text({"minLength": 1, **schema.get("propertyNames", {})})
    return st.builds(lambda free, named: free | named, st.dictionaries(keys, valid(others, root), max_size=3), fixed)


def _text(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    least, most, pattern = schema.get("minLength", 0), schema.get("maxLength", 100), schema.get("pattern")
    if pattern is None or pattern == r"^[^\x00]*$":
        return PLAIN_TEXT.filter(lambda text: least <= len(text) <= most)
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: not text.endswith("\n"))


_OF_TYPE: dict[str, Callable[[dict[str, Any], dict[str, Any]], st.SearchStrategy[Any]]] = {
    "object": _map,
    "array": _list,
    "string": lambda schema, _: _text(schema),
    "integer": lambda schema, _: st.integers(schema["minimum"], schema["maximum"]) | st.just(max(1, schema["minimum"])),
    "number": _number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of each value within a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def mutations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the document with each of its values deleted, accompanied by an unknown one, and replaced by each odd value."""
    for *parents, last in list(places(document)):
        for value in (DELETED, UNKNOWN, *HOSTILE):
            changed = copy.deepcopy(document)
            node: Any = changed
            for step in parents:
                node = node[step]
            if value is DELETED:
                del node[last]
            elif value is not UNKNOWN:
                node[last] = copy.deepcopy(value)
            elif isinstance(node, dict):
                node["unknown"] = 1
            yield changed

"""Values that a JSON Schema allows, and now and then one that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Values = st.SearchStrategy[Any]

_WORDS: Values = st.text("abcxyz_/.*[(-", min_size=0, max_size=6)
_ANYTHING: Values = (
    st.none() | st.booleans() | st.integers() | st.floats(-1e3, 1e3) | _WORDS | st.just([]) | st.just({})
)


def allowed(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Values:
    """Draws from `schema`, whose `$ref` are names in `definitions`. Of objects each property is drawn or left out."""
    if "$ref" in schema:
        return allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of([allowed(each, definitions) for each in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return _of_type(schema, definitions)


def _of_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Values:
    match schema.get("type"):
        case "integer":
            return st.integers(schema.get("minimum", -2), min(schema.get("maximum", 6), 6))
        case "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", -2.0))
            return st.floats(
                least, schema.get("maximum", max(least, 0.0) + 9), exclude_min="exclusiveMinimum" in schema
            )
        case "string":
            return st.from_regex(schema["pattern"]) if "pattern" in schema else _WORDS
        case "array":
            return st.lists(allowed(schema.get("items", {}), definitions), max_size=2)
        case "object":
            inner = schema.get("additionalProperties")
            free = st.dictionaries(_WORDS, allowed(inner if isinstance(inner, dict) else {}, definitions), max_size=2)
            named = {name: allowed(each, definitions) for name, each in schema.get("properties", {}).items()}
            return st.fixed_dictionaries({}, optional=named) if named else free
    return {"boolean": st.booleans(), "null": st.none()}.get(schema.get("type", ""), _ANYTHING)


def near(schema: Mapping[str, Any]) -> Values:
    """As `allowed`, half of them with a value of any kind under one key."""
    objects = allowed(schema, schema.get("$defs", {}))
    names = st.sampled_from([*schema["properties"], "unknown"])
    return objects | st.builds(lambda given, name, value: {**given, name: value}, objects, names, _ANYTHING)

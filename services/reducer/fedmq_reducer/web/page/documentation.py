"""The page `/docs`: the OpenAPI document as HTML, made here.

It has no script. Swagger's page would load one from another server, at the origin of the page that starts and stops
sessions, and stay empty where that server is not reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

METHODS = ("get", "post", "put", "delete")


class Parameter(NamedTuple):
    """A parameter of a request, or a key of a body. `kind`: its type, with alternatives."""

    name: str
    kind: str
    default: str
    description: str


class Operation(NamedTuple):
    """One request. `body`: the name of what is sent, or empty. `answers`: status and meaning."""

    id: str
    method: str
    path: str
    description: str
    parameters: list[Parameter]
    body: str
    answers: list[tuple[str, str]]


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Returns the operations of an OpenAPI document by their tag, in its order."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if (each := methods.get(method)) is not None:
                found.setdefault(each["tags"][0], []).append(_operation(method, path, each))
    return found


def bodies(document: Mapping[str, Any]) -> dict[str, list[Parameter]]:
    """Returns the keys of each schema that the document names."""
    schemas = document.get("components", {}).get("schemas", {})
    return {
        name: [
            Parameter(key, _kind(schema), _default(schema), schema.get("description", ""))
            for key, schema in schemas[name].get("properties", {}).items()
        ]
        for name in schemas
    }


def _operation(method: str, path: str, each: Mapping[str, Any]) -> Operation:
    parameters = [
        Parameter(one["name"], _kind(one["schema"]), _default(one["schema"]), one.get("description", ""))
        for one in each.get("parameters", ())
    ]
    answers = sorted((status, answer["description"]) for status, answer in each["responses"].items())
    return Operation(
        each["operationId"], method.upper(), path, each.get("description", ""), parameters, _body(each), answers
    )


def _body(each: Mapping[str, Any]) -> str:
    content = each.get("requestBody", {}).get("content", {})
    return " or ".join(f"{_kind(sent.get('schema', {}))} as {kind}" for kind, sent in content.items())


def _kind(schema: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_kinds(schema))) or "any"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    for alternative in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _kinds(alternative)
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    elif "enum" in schema:
        yield from (str(value) for value in schema["enum"])
    elif "const" in schema:
        yield str(schema["const"])
    elif "type" in schema and schema["type"] != "null":
        yield schema["type"]


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None or default == {} else str(default)

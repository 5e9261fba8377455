"""Generates the contract documents for other languages from the code: `python -m fedmq_schemas.generate`.

json/KIND.json   JSON Schema of each message, envelope and body in one
ledger.json      JSON Schema of the ledgers of partials and rounds
asyncapi.yaml    AsyncAPI 3: exchanges, inboxes, addresses, senders, receivers, and the names of events
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, create_model

from fedmq_schemas import messages
from fedmq_schemas.bounds import Version, plain_json
from fedmq_schemas.ledgers import Ledger
from fedmq_schemas.limits import DEEPEST, MOST_VALUES
from fedmq_schemas.messages import BODIES, MAX_BODY, VERSION, Body, Envelope
from fedmq_schemas.properties import PROPERTIES, SOMETIMES_CONFIRMED, UNCONFIRMED
from fedmq_schemas.records.events import EVENT_NAMES
from fedmq_schemas.routes import PARAMETERS, ROLES, ROUTES, Route
from fedmq_schemas.topology import Queue, Topology, client_permissions

FOLDER = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ALLIANCE = "{alliance}"
_AMQP_BINDING = "0.3.0"
FROM_THE_BROKER = ("id", "alliance", "sender", "sent_at")
"""Fields of the envelope that a sender may leave out: see `R-ENVELOPE-1` in README.md."""
PLAIN_REF = "#/$defs/Plain"
PLAIN_WORDS = f"What JSON can say, nested at most {DEEPEST} deep, with at most {MOST_VALUES} values in all."


def message_schema(kind: str) -> dict[str, Any]:
    """Returns the JSON Schema of a whole message of this kind: the envelope with its body."""
    body = BODIES[kind]
    fields: dict[str, Any] = {
        "kind": (Literal[kind], Field(description="kind of the message")),
        "version": (
            Version if body.any_version else Literal[VERSION],
            Field(VERSION, description="changes only when an old receiver would misunderstand a message"),
        ),
        "body": (body, Field(default_factory=body)) if _is_optional(body) else (body, ...),
    }
    model = create_model(f"{_title(kind)}Message", __base__=Envelope, **fields)
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    schema["description"] = _words(body)
    schema["required"] = [name for name in schema["required"] if name not in FROM_THE_BROKER]
    return {"$schema": DIALECT, "$id": f"{kind}.json", **strict(schema)}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema that refuses what the code refuses: also keys of maps, and what a `Plain` holds.

    pydantic writes the pattern of a key as `patternProperties`, which allows any value under another key.
    """
    found: dict[str, Any] = _with_keys_and_plain(schema)
    if PLAIN_REF in json.dumps(found):
        found["$defs"]["Plain"] = {**plain_json({"$ref": PLAIN_REF}), "description": PLAIN_WORDS}
    return found


def _with_keys_and_plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_keys_and_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.items() >= plain_json({}).items():
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return {**rest, "$ref": PLAIN_REF}
    node = {key: _with_keys_and_plain(value) for key, value in node.items()}
    if "patternProperties" in node:
        [(pattern, value)] = node.pop("patternProperties").items()
        node["propertyNames"] = {**node.get("propertyNames", {}), "pattern": pattern}
        node["additionalProperties"] = value
    return node


def _title(kind: str) -> str:
    return BODIES[kind].__name__.removesuffix("Message")


def _is_optional(body: type[Body]) -> bool:
    return not any(field.is_required() for field in body.model_fields.values())


def asyncapi() -> dict[str, Any]:
    """Returns the AsyncAPI 3 document. `{alliance}` stands for the alliance's id."""
    topology = Topology(ALLIANCE)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "FedMQ",
            "version": str(VERSION),
            "description": _module_words(messages),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {
            "broker": {
                "host": "{host}:5672",
                "pathname": "/{vhost}",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
                "description": "RabbitMQ 3.10 or newer. The account of a client has the client's name, and the broker "
                f"validates `user_id`. A body has at most {MAX_BODY} bytes.",
                "variables": {
                    "host": {"default": "localhost", "description": "host name of the broker"},
                    "vhost": {"default": "", "description": "virtual host, unless it is the default one"},
                },
            }
        },
        "channels": {**_address_channels(topology), **_inbox_channels(topology)},
        "operations": {_operation_name(route): _operation(route) for route in ROUTES},
        "components": {
            "messages": {kind: _message(kind) for kind in sorted(BODIES)},
            "correlationIds": {
                "cause": {
                    "description": "`cause` is the `id` of the message that led to this one, if one did",
                    "location": "$message.payload#/cause",
                }
            },
            "schemas": {"properties": PROPERTIES},
        },
        "x-roles": dict(ROLES),
        "x-events": dict(EVENT_NAMES),
        "x-client-permissions": _permissions(topology),
    }


def _message(kind: str) -> dict[str, Any]:
    content_type = "application/json" if kind in ("start", "stop") else None
    accepted = "msgpack, or JSON with content type application/json"
    return {
        "name": kind,
        "title": _title(kind),
        "summary": _words(BODIES[kind]).partition(". ")[0].rstrip(".") + ".",
        "description": f"{_words(BODIES[kind])}\n\nEncoding: {accepted}.",
        **({"contentType": content_type} if content_type else {}),
        "correlationId": {"$ref": "#/components/correlationIds/cause"},
        "headers": {"$ref": "#/components/schemas/properties"},
        "payload": {
            "schemaFormat": f"application/schema+json;version={DIALECT}",
            "schema": {"$ref": f"json/{kind}.json"},
        },
    }


# -- channels -----------------------------------------------------------------------------------------------------------


def _address_channels(topology: Topology) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    for route in ROUTES:
        channel = channels.setdefault(
            _channel_name(route),
            {
                "address": route.key,
                "title": f"exchange {route.exchange}, to {route.receiver}",
                "messages": {},
                **_parameters(route.key),
                "bindings": {
                    "amqp": {
                        "is": "routingKey",
                        "exchange": {
                            "name": topology.exchange(route.exchange),
                            "type": "topic",
                            "durable": True,
                            "autoDelete": False,
                        },
                        "bindingVersion": _AMQP_BINDING,
                    }
                },
            },
        )
        channel["messages"][route.kind] = {"$ref": f"#/components/messages/{route.kind}"}
    return channels


def _parameters(key: str) -> dict[str, Any]:
    named = {name: {"description": words} for name, words in PARAMETERS.items() if f"{{{name}}}" in key}
    return {"parameters": named} if named else {}


def inboxes(topology: Topology) -> dict[str, tuple[Queue, str]]:
    """Returns each inbox and its description, by the name of its role."""
    return {
        "reducer": (topology.reducer(), _words(Topology.reducer)),
        "combiner": (topology.combiner("{combiner}"), _words(Topology.combiner)),
        "client": (topology.client("{client}"), _words(Topology.client)),
        "records": (topology.records(), _words(Topology.records)),
        "observer": (topology.observer("{observer}"), _words(Topology.observer)),
        "dead": (topology.dead(), _words(Topology.dead)),
    }


def _inbox_channels(topology: Topology) -> dict[str, Any]:
    return {f"inbox_{name}": _inbox(queue, words) for name, (queue, words) in inboxes(topology).items()}


def _inbox(queue: Queue, words: str) -> dict[str, Any]:
    return {
        "address": queue.name,
        "description": words,
        "x-bound-to": [{"exchange": bound.exchange, "routingKey": bound.routing_key} for bound in queue.bindings],
        "x-arguments": queue.arguments,
        **({"x-rejected-to": queue.dead_letter} if queue.dead_letter else {}),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue.name,
                    "durable": not queue.exclusive,
                    "exclusive": queue.exclusive,
                    "autoDelete": False,
                },
                "bindingVersion": _AMQP_BINDING,
            }
        },
    }


def _permissions(topology: Topology) -> dict[str, Any]:
    granted = client_permissions(topology, "{client}")
    plain = {"configure": granted.configure, "write": granted.write, "read": granted.read}
    topics = {"topic_write": granted.topic_write, "topic_read": granted.topic_read}
    named = {name: {key: _unescaped(value) for key, value in each.items()} for name, each in topics.items()}
    return {"description": _words(client_permissions), **{k: _unescaped(v) for k, v in plain.items()}, **named}


def _unescaped(pattern: str) -> str:
    """Restores parameters in braces. They stand for names, which need no escaping in regular expressions."""
    return pattern.replace(r"\{", "{").replace(r"\}", "}")


# -- operations ---------------------------------------------------------------------------------------------------------


def _channel_name(route: Route) -> str:
    """Returns `EXCHANGE_to_RECEIVER`. Names the sender too, where clients and combiners use different addresses."""
    of = f"_of_{route.sender}" if route.receiver == "reducer" and route.exchange in ("assignment", "update") else ""
    what = f"_{route.kind}" if route.exchange == "control" else ""
    return f"{route.exchange}{what}{of}_to_{route.receiver}"


def _operation_name(route: Route) -> str:
    return f"{route.sender}_sends_{route.kind}"


def _operation(route: Route) -> dict[str, Any]:
    channel = _channel_name(route)
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": f"{route.kind}: {route.sender} → {route.receiver}",
        "summary": _words(BODIES[route.kind]).partition(". ")[0].rstrip(".") + ".",
        "messages": [{"$ref": f"#/channels/{channel}/messages/{route.kind}"}],
        "bindings": {
            "amqp": {
                **(
                    {} if route.kind in SOMETIMES_CONFIRMED else {"deliveryMode": 1 if route.kind in UNCONFIRMED else 2}
                ),
                "mandatory": False,
                "ack": True,
                "bindingVersion": _AMQP_BINDING,
            }
        },
        "x-sender": route.sender,
        "x-receiver": route.receiver,
        **_reply(route),
    }


def _reply(route: Route) -> dict[str, Any]:
    """AsyncAPI's `reply` names one channel. Answers over several channels are listed in `x-answers` only."""
    if not route.answers:
        return {}
    found = [
        answer for answer in ROUTES if answer.kind in route.answers and answer.receiver in (route.sender, "records")
    ]
    channels = list(dict.fromkeys(_channel_name(answer) for answer in found))
    named: dict[str, Any] = {"x-answers": list(route.answers)}
    if len(channels) == 1:
        where = channels[0]
        kinds = dict.fromkeys(answer.kind for answer in found)
        named["reply"] = {
            "channel": {"$ref": f"#/channels/{where}"},
            "messages": [{"$ref": f"#/channels/{where}/messages/{kind}"} for kind in kinds],
        }
    return named


# -- words and files ----------------------------------------------------------------------------------------------------


def _words(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").split())


def _module_words(module: Any) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(module) or "").split("\n\n"))


def documents() -> dict[str, str]:
    """Returns the text of each generated file, by its path in this package."""
    found = {
        f"json/{kind}.json": json.dumps(message_schema(kind), indent=2, ensure_ascii=False) + "\n"
        for kind in sorted(BODIES)
    }
    text = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)
    head = "# Generated by `python -m fedmq_schemas.generate`; change the code, not this file.\n"
    ledger = {"$schema": DIALECT, "$id": "ledger.json", **Ledger.model_json_schema()}
    in_json = json.dumps(ledger, indent=2, ensure_ascii=False) + "\n"
    return found | {"asyncapi.yaml": head + text, "ledger.json": in_json}


def write(folder: Path = FOLDER) -> Iterable[Path]:
    """Writes all documents, deletes those of removed messages, and yields the written paths."""
    (folder / "json").mkdir(exist_ok=True)
    texts = documents()
    for old in (folder / "json").glob("*.json"):
        if f"json/{old.name}" not in texts:
            old.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        yield folder / name


if __name__ == "__main__":
    for path in write():
        print(path)

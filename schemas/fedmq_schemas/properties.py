"""Properties of AMQP messages, and which messages are confirmed: what the AsyncAPI document states of them."""

from __future__ import annotations

from typing import Any

UNCONFIRMED = {"progress", "wait", "about", "cancel", "update_outcome", "duplicate_client", "event", "events"}
"""Messages that are published once, without a confirm, and lost if the broker stops: a later one takes their place."""
SOMETIMES_CONFIRMED = {"client_presence", "combiner_presence", "grant"}
"""Confirmed if they change something, such as `leaving`; repeated once a period, or on request, if they do not."""
PROPERTIES: dict[str, Any] = {
    "type": "object",
    "description": "Properties of an AMQP message, which the AMQP binding of AsyncAPI can not state.",
    "required": ["message_id", "content_type"],
    "properties": {
        "message_id": {"type": "string", "maxLength": 200, "description": "the envelope's `id`"},
        "user_id": {"type": "string", "description": "the account that publishes; RabbitMQ refuses another one"},
        "content_type": {"enum": ["application/msgpack", "application/json"]},
        "delivery_mode": {"enum": [1, 2], "description": "2 for what must outlive a restart of the broker"},
        "expiration": {"type": "string", "pattern": "^[0-9]+$", "description": "milliseconds until nobody needs it"},
    },
}
"""What a sender sets. `R-CONFIRM-1` and `R-EXPIRY-1` in README.md say which messages are persistent and which expire."""

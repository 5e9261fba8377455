"""What a session has found of the models that it did not make, and of those that are still being validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.metrics import Summary, summarize_validations
from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables


def first_model(records: Records, session: Mapping[str, Any]) -> Document | None:
    """Returns `model` and `metrics` of the model that a session started from, as this session found them. None if no such
    model is known yet.

    A reducer records them when the model's validation is over. Before that, and for sessions of versions that recorded no
    summaries, they are made of the session's validations.
    """
    name = session["session"]
    for summary in records.find(tables.SUMMARIES, {"session": name}, limit=1):
        return {"model": summary["model"], "metrics": summary["metrics"]}
    attempt = records.get(tables.ATTEMPTS, keys.attempt_record(name, 1, 1))
    model = session["seed"] if attempt is None else keys.model_id(attempt["model"]["key"])
    return None if model is None else {"model": model, "metrics": summary_in(records, name, model)}


def summary_in(records: Records, session: str, model: str) -> Summary:
    """Returns the summary of a model's validations in a session, as far as they are recorded."""
    found = records.find(tables.VALIDATIONS, {"session": session, "model": model})
    return summarize_validations((row["scope"], row["weight"], row["metrics"]) for row in found)

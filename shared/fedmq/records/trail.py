"""Summaries of the validations in a session, from its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.metrics import Summary, summarize_validations
from fedmq.records.base import Document, Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables


def first_model(records: Records, session: Mapping[str, Any]) -> Document | None:
    """Returns `model` and `metrics` of the model that a session started from; None if it is not chosen yet.

    The reducer records a summary when the validation of the model ends. Until then, and for sessions of versions without
    summaries, the metrics are computed from this session's validations.
    """
    name = session["session"]
    for summary in records.find(tables.SUMMARIES, {"session": name}, limit=1):
        return {"model": summary["model"], "metrics": summary["metrics"]}
    attempt = records.get(tables.ATTEMPTS, keys.attempt_record(name, 1, 1))
    model = session["seed"] if attempt is None else keys.model_id(attempt["model"]["key"])
    return None if model is None else {"model": model, "metrics": summary_in(records, name, model)}


def summary_in(records: Records, session: str, model: str) -> Summary:
    """Returns the summary of the validations of a model that a session has recorded so far."""
    found = records.find(tables.VALIDATIONS, {"session": session, "model": model})
    return summarize_validations((row["scope"], row["weight"], row["metrics"]) for row in found)

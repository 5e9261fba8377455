"""The documents that a reducer records, as `fedmq_schemas.records` describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.effects import Now
from fedmq_reducer.operations import Aggregate, Aggregated
from fedmq_reducer.sessions.attempt import Attempt
from fedmq_reducer.sessions.session import Session, Stage, model_id
from fedmq_schemas.messages import BlobRef, Partial, Validation
from fedmq_schemas.records import Ledger


def session_document(session: Session, now: Now) -> dict[str, Any]:
    return {
        "session": session.name,
        "name": session.policy.name,
        "state": session.stage.recorded,
        "waiting": "",
        "waiting_until": None,
        "reason": "",
        "policy": session.policy.model_dump(mode="json"),
        "seed": session.policy.seed,
        "random_seed": session.random_seed,
        "position": session.position,
        "stop_after_round": False,
        "base": None,
        "started_at": None,
        "score": None,
        "created_at": now.wall,
        "ended_at": None,
    }


def end_fields(stage: Stage, reason: str, newest: int, model: str | None, now: Now) -> dict[str, Any]:
    """What a session's record says from its end on. `newest`: its last round; `model`: that round's, or the seed."""
    return {
        "state": stage.value,
        "reason": reason,
        "round": newest,
        "model": model,
        "announced": False,
        "ended_at": now.wall,
        "waiting": "",
        "waiting_until": None,
    }


def attempt_key(session: Session) -> str:
    return f"{session.name}/{session.round:06d}/{session.attempts:04d}"


def attempt_document(session: Session, attempt: Attempt, term: int) -> dict[str, Any]:
    """The draw: all that a reducer needs to send the attempt's plans again."""
    lineage = session.lineage
    return {
        "session": session.name,
        "round": session.round,
        "attempt": attempt.number,
        "model": session.model.model_dump(),
        "optimizer": lineage.optimizer.model_dump() if lineage.optimizer else None,
        "exponents": list(lineage.exponents),
        "plans": [part.document() for part in attempt.parts],
        "epoch": term,
        "created_at": attempt.created_at,
    }


def partial_document(partial: Partial, combiner: str) -> dict[str, Any]:
    return {
        "session": partial.plan.session,
        "plan": str(partial.plan),
        "combiner": combiner,
        "partial": partial.model_dump(mode="json"),
    }


def round_key(session: Session) -> str:
    return f"{session.name}/{session.round:06d}"


def round_document(session: Session, request: Aggregate, result: Aggregated, term: int, now: Now) -> dict[str, Any]:
    """The commit point."""
    return {
        "session": session.name,
        "round": session.round,
        "attempt": request.attempt,
        "model": result.model.model_dump(),
        "parent": request.model.model_dump(),
        "base": session.lineage.base.model_dump() if session.lineage.base else None,
        "optimizer": result.optimizer.model_dump() if result.optimizer else None,
        "ledger": result.ledger.model_dump(),
        "total_weight": result.total_weight,
        "counts": dict(result.counts),
        "metrics": dict(result.metrics),
        "exponents": list(result.exponents),
        "bytes": dict(result.bytes),
        "seconds": now.seconds - session.began_at,
        "epoch": term,
        "committed_at": now.wall,
    }


def participation_key(committed: Mapping[str, Any]) -> str:
    return f"{committed['session']}/{committed['round']:06d}/{committed['attempt']:04d}"


def participation_document(ledger: Ledger) -> dict[str, Any]:
    """The ledger in columns."""
    entries = ledger.entries
    steps = sorted({step for entry in entries for step in entry.seconds})
    return {
        "session": ledger.session,
        "round": ledger.round,
        "attempt": ledger.attempt,
        "clients": [entry.client for entry in entries],
        "outcomes": [entry.outcome for entry in entries],
        "weights": [entry.weight for entry in entries],
        "norms": [entry.norm for entry in entries],
        "at": [entry.at for entry in entries],
        "seconds": {step: [entry.seconds.get(step) for entry in entries] for step in steps},
        "reasons": {entry.client: entry.reason for entry in entries if entry.reason},
    }


def model_document(committed: Mapping[str, Any]) -> dict[str, Any]:
    """The trail's entry for a committed round."""
    return {
        "model": model_id(BlobRef.model_validate(committed["model"])),
        "ref": committed["model"],
        "base": committed["base"],
        "parent": model_id(BlobRef.model_validate(committed["parent"])),
        "session": committed["session"],
        "round": committed["round"],
        "ledger": committed["ledger"],
        "metrics": {},
        "kept": True,
        "created_at": committed["committed_at"],
    }


def validation_document(body: Validation, client: str, now: Now) -> dict[str, Any]:
    """A train plan of round r carries the validation of the model of round r - 1."""
    return {
        "session": body.plan.session,
        "round": body.plan.round if body.plan.action == "validate" else body.plan.round - 1,
        "model": body.model.partition("/")[2],
        "client": client,
        "scope": body.scope,
        "weight": body.weight,
        "metrics": body.metrics,
        "reason": body.reason,
        "at": now.wall,
    }

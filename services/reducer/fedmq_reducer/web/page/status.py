"""The status of the alliance that the page shows, read from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.records.base import Document, Records
from fedmq.runtime.stalls import Stalls
from fedmq_reducer.web.api.open_round import open_round
from fedmq_reducer.web.api.stalls import all_stalls, with_stalls
from fedmq_schemas import keys
from fedmq_schemas import records as tables

MOST_SESSIONS = 20
MOST_CLIENTS = 100
MOST_MODELS = 2_000
MOST_SEEDS = 100
_ACTIVE = ("waiting", "running", "validating")


@dataclass(frozen=True, slots=True)
class OpenRound:
    """The attempt whose plans are open. `deadline`: UTC seconds since 1970."""

    number: int
    attempt: int
    asked: int
    answered: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Current:
    """The session that runs. `done`: the number of committed rounds."""

    session: Document
    done: int
    model: str | None
    open: OpenRound | None


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the alliance. `clients`: the first of `known` clients, those that are away before the others."""

    state: str
    current: Current | None
    sessions: Sequence[Document]
    combiners: Sequence[Document]
    clients: Sequence[Document]
    here: int
    known: int


def read_status(records: Records, stalls: Stalls) -> Status:
    """Returns the status. `stalls`: those of this process. Raises FedMQError if the records can't be read."""
    sessions = records.find(tables.SESSIONS, order="created_at", descending=True, limit=MOST_SESSIONS)
    active = records.find(tables.SESSIONS, {"state": list(_ACTIVE)}, limit=1)
    current = _current(records, with_stalls(active[0], all_stalls(records, stalls))) if active else None
    clients = sorted(records.find(tables.CLIENTS), key=lambda client: (client["state"] == "present", client["client"]))
    return Status(
        state=current.session["state"] if current else "idle",
        current=current,
        sessions=sessions,
        combiners=records.find(tables.COMBINERS),
        clients=clients[:MOST_CLIENTS],
        here=sum(client["state"] == "present" for client in clients),
        known=len(clients),
    )


def _current(records: Records, session: Document) -> Current:
    name = session["session"]
    rounds = records.find(tables.ROUNDS, {"session": name}, order="round", descending=True, limit=1)
    done = rounds[0]["round"] if rounds else 0
    model = keys.model_id(rounds[0]["model"]["key"]) if rounds else session["seed"]
    return Current(session, done, model, _open(open_round(records, session)))


def _open(found: Document | None) -> OpenRound | None:
    if found is None:
        return None
    answered = sum(client["outcome"] is not None for client in found["clients"])
    return OpenRound(found["round"], found["attempt"], len(found["clients"]), answered, found["deadline"])


def seeds(blobs: Blobs, records: Records) -> list[tuple[str, str]]:
    """Returns models to start from, as value and label: unused ones, then the newest ones of the trail."""
    models = records.find(tables.MODELS, order="created_at", descending=True, limit=MOST_MODELS)
    known = {model["model"] for model in models}
    names = (keys.model_id(info.key) for info in islice(blobs.list(keys.ALL_MODELS), MOST_MODELS))
    unknown = islice((name for name in names if name not in known), MOST_SEEDS)
    unused = [name for name in unknown if records.get(tables.MODELS, name) is None]
    kept = islice(filter(tables.is_kept, models), MOST_SEEDS)
    made = ((model["model"], _described(model)) for model in kept)
    return [*((name, f"{name} · not used yet") for name in unused), *made]


def _described(model: Document) -> str:
    """Returns the label of a model: its id, and the mean of its most telling metric."""
    metrics: dict[str, Any] = model["metrics"]
    names: list[str] = [
        name for name in ("test/accuracy", "accuracy", "test/loss", "loss") if name in metrics
    ] or sorted(metrics)
    best = names[0] if names else None
    return model["model"] if best is None else f"{model['model']} · {best} {metrics[best]['mean']:.4g}"

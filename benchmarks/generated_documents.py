"""The documents that `generate_records.py` writes, in the shapes of `fedmq_schemas.records`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedmq.records.base import Document
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.records import ModelRecord
from fedmq_schemas.topology import Topology

MODEL_BYTES = 4_800_000
TRACEBACK = """Traceback (most recent call last):
  File "client/trainer.py", line 31, in train
    images, labels = self.load(task.config["split"])
  File "client/trainer.py", line 19, in load
    return np.load(self.data / f"{split}.npz")
FileNotFoundError: [Errno 2] No such file or directory: '/data/night.npz'
"""
ABSENT = "no answer by the deadline"
FATES = (
    (0.004, "failed", "train raised FileNotFoundError: [Errno 2] No such file or directory: '/data/night.npz'"),
    (0.007, "rejected", "tensor '0003/kernel' holds NaN"),
    (0.015, "abstained", "the trainer had nothing to give"),
    (0.030, "absent", ABSENT),
)
"""Probability below which an outcome is drawn, cumulative; the outcome; its reason."""


@dataclass(frozen=True, slots=True)
class Site:
    """How one client behaves: `skill` shifts its accuracy, `pace` is seconds of training a round."""

    name: str
    combiner: str
    weight: int
    skill: float
    pace: float
    mislabelled: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One client's part in a round: the columns of `participation`, and the model's score there.

    `at` is None for an absent client; `is_late`: its update came after the deadline.
    """

    site: Site
    outcome: str
    reason: str
    norm: float | None
    at: float | None
    seconds: dict[str, float]
    score: dict[str, float]
    is_late: bool


def event(name: str, session: str | None, number: int | None, at: float, sender: str, **data: Any) -> Document:
    client, combiner = data.pop("client", None), data.pop("combiner", None)
    known = data.pop("id", None) or hashlib.sha256(f"{name}{session}{number}{client}{at}".encode()).hexdigest()[:32]
    return {
        "id": known,
        "name": name,
        "session": session,
        "round": number,
        "client": client,
        "combiner": combiner,
        "at": at,
        "sender": sender,
        "cause": None,
        "data": data,
    }


def ref(key: str) -> Document:
    return {"key": key, "size": MODEL_BYTES, "sha256": hashlib.sha256(key.encode()).hexdigest()}


def model(name: str, parent: str | None, session: str | None, number: int, at: float) -> Document:
    record = ModelRecord(
        model=name,
        ref=BlobRef(**ref(keys.model_blob(name))),
        parent=parent,
        session=session,
        round=number,
        ledger=BlobRef(**ref(keys.round_ledger_blob(session, number))) if session else None,
        created_at=at,
    )
    return record.document()


def outcome(answer: Answer) -> Document:
    """Returns the data of the event of an outcome."""
    if answer.outcome == "absent":
        return {}
    data: Document = {}
    if answer.outcome in ("accepted", "rejected"):
        data = {"weight": answer.site.weight, "norm": answer.norm, "seconds": answer.seconds, "metrics": {}}
    if answer.outcome != "accepted":
        data |= {"reason": answer.reason, "traceback": TRACEBACK if answer.outcome == "failed" else ""}
    return data


def test_score(answers: list[Answer]) -> dict[str, float]:
    """Returns the score of the evaluator: the mean of the clients'."""
    return {"accuracy": sum(answer.score["accuracy"] for answer in answers) / len(answers)}


def participation(session: str, number: int, answers: list[Answer]) -> Document:
    steps = ("fetch", "validate", "train", "upload", "total", "fold", "transit")
    return {
        "session": session,
        "round": number,
        "attempt": 1,
        "clients": [answer.site.name for answer in answers],
        "outcomes": [answer.outcome for answer in answers],
        "weights": [answer.site.weight if answer.outcome in ("accepted", "rejected") else 0 for answer in answers],
        "norms": [answer.norm for answer in answers],
        "at": [answer.at for answer in answers],
        "seconds": {step: [answer.seconds.get(step) for answer in answers] for step in steps},
        "reasons": {answer.site.name: answer.reason for answer in answers if answer.reason},
    }


def validations(
    session: str, number: int, model: str, at: float, answers: list[Answer], test: dict[str, float] | None
) -> list[tuple[str, Document]]:
    """Returns the rows of the clients that answered, also late, and of the evaluator unless `test` is None."""
    common = {"session": session, "round": number, "model": model, "reason": "", "at": at}
    rows = [
        {**common, "client": a.site.name, "scope": "client", "weight": a.site.weight, "metrics": a.score}
        for a in answers
        if a.outcome != "absent" or a.is_late
    ]
    if test is not None:
        rows.append({**common, "client": "evaluator", "scope": "test", "weight": 10_000, "metrics": test})
    return [(keys.validation_record(session, model, str(row["client"])), row) for row in rows]


def attempt(
    session: str, number: int, began: float, parent: str, sites: Sequence[Site], combiners: Sequence[str]
) -> Document:
    """Returns the record of a round's only attempt, with a plan for each combiner."""
    plans = [
        {
            "part": part,
            "combiner": combiner,
            "clients": [site.name for site in sites if site.combiner == combiner],
            "voided": False,
        }
        for part, combiner in enumerate(combiners)
    ]
    return {
        "session": session,
        "round": number,
        "attempt": 1,
        "model": ref(keys.model_blob(parent)),
        "optimizer": None,
        "exponents": [-30, -30],
        "plans": plans,
        "epoch": 1,
        "created_at": began,
    }


def events_of(
    record: Document, began: float, answers: Sequence[Answer], rows: Sequence[Document], combiners: int, timeout: float
) -> Iterator[Document]:
    """Yields the events of a committed round: `record`, with its clients' `answers` and the `rows` of validations."""
    session, number, ended = record["session"], record["round"], record["committed_at"]
    planned = {"attempt": 1, "clients": len(answers), "combiners": combiners, "timeout": timeout}
    yield event("round.planned", session, number, began, "reducer", id=f"planned-{session}-{number}", **planned)
    for answer in answers:
        site = answer.site
        who = {"client": site.name, "combiner": site.combiner}
        at = ended if answer.at is None else answer.at
        data = outcome(answer)
        yield event(f"update.{answer.outcome}", session, number, at, site.combiner, **who, **data)
        if answer.is_late:
            late = {"reason": "late: the plan is closed"}
            yield event("update.discarded", session, number, ended + 20.0, site.combiner, **who, **late)
    for row in rows:
        scored = {name: row[name] for name in ("model", "scope", "metrics", "weight", "reason")}
        yield event("model.validated", session, number, row["at"], "reducer", client=row["client"], **scored)
    committed = {name: record[name] for name in ("seconds", "counts", "attempt", "metrics", "total_weight")}
    committed |= {"model": keys.model_id(record["model"]["key"]), "sha256": record["model"]["sha256"]}
    yield event("round.committed", session, number, ended, "reducer", id=f"committed-{session}-{number}", **committed)


def queues_of(sites: Sequence[Site], combiners: Sequence[str]) -> list[Document]:
    """Returns the queues of the alliance, some with messages that wait."""
    topology = Topology("fedmq")
    queues = [topology.reducer(), topology.records(), *(topology.combiner(name) for name in combiners)]
    rows = [{"name": queue.name, "ready": 0, "unacked": 7 * n, "consumers": 1} for n, queue in enumerate(queues)]
    boxes = [
        {
            "name": topology.client(site.name).name,
            "ready": int(number % 97 == 96),
            "unacked": 0,
            "consumers": int(number % 97 != 96),
        }
        for number, site in enumerate(sites)
    ]
    return [*rows, {"name": topology.dead().name, "ready": 1, "unacked": 0, "consumers": 0}, *boxes]

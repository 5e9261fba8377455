"""Writes the records of a made-up alliance, so that dashboards can be tried at scale.

    python benchmarks/generate_records.py DIR [--clients 1000] [--rounds 100] [--combiners 4] [--random-seed 1]
    fedmq run dashboard --state-dir DIR

The shapes are those of real records, which a test compares. One finished session, a second, shorter one that started from
the first one's last model and was stopped, a third in the queue, and the troubles that a dashboard should make visible: a
site with wrong labels, slow sites, late and absent ones, a trainer that fails now and then, updates with NaN, an evaluator
that misses rounds, dead letters. The same arguments write the same records.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import time
from pathlib import Path

import generated_documents as documents
from generated_documents import MODEL_BYTES, Answer, Site

from fedmq.metrics import summarize, summarize_validations
from fedmq.records.base import Document, Records
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import OUTCOMES, SessionRecord, SummaryRecord, ValidationRequest, WindowRecord

BEGAN = 1_760_000_000.0
TIMEOUT = 120.0
SESSIONS_APART = 5.0
BATCH = 5_000


class Generator:
    """`write(records)` writes everything; big tables go in batches."""

    def __init__(self, clients: int, rounds: int, combiners: int, random_seed: int) -> None:
        self._random = random.Random(random_seed)
        self._rounds = rounds
        self._combiners = [f"combiner{number + 1}" for number in range(combiners)]
        self._sites = [self._site(number) for number in range(clients)]

    def write(self, records: Records) -> None:
        self._write_members(records)
        parent = self._write_seed(records)
        last, ended = self._write_session(records, "s-long", "adam-1000", self._rounds, BEGAN, parent, 0, 0, "finished")
        short, began = max(1, self._rounds // 5), ended + SESSIONS_APART
        _, ended = self._write_session(records, "s-short", "sgd-again", short, began, last, self._rounds, 1, "stopped")
        self._write_queued(records, ended)
        self._write_troubles(records, began)

    def _site(self, number: int) -> Site:
        source = self._random
        return Site(
            name=f"client{number + 1:04d}",
            combiner=self._combiners[number % len(self._combiners)],
            weight=source.choice((200, 500, 1000, 1000, 2000, 5000)),
            skill=source.gauss(0, 0.02),
            pace=20.0 * source.lognormvariate(0, 0.35),
            mislabelled=number == 6,
        )

    def _write_members(self, records: Records) -> None:
        clients = []
        for number, site in enumerate(self._sites):
            away = number % 97 == 96
            document = {
                "client": site.name,
                "labels": {"site": ("north", "south", "east")[number % 3]},
                "tasks": ["train", "validate"],
                "weight": site.weight,
                "package": hashlib.sha256(b"new" if number % 11 else b"old").hexdigest(),
                "software": "fedmq 0.1.0" if number % 11 else "fedmq 0.0.9",
                "combiner": site.combiner,
                "ordinal": number,
                "state": "away" if away else "present",
                "last_seen": BEGAN + 100 * number / len(self._sites),
            }
            clients.append((site.name, document))
        evaluator = {
            "client": "evaluator",
            "labels": {},
            "tasks": ["validate"],
            "weight": 1,
            "package": hashlib.sha256(b"new").hexdigest(),
            "software": "fedmq 0.1.0",
            "combiner": self._combiners[0],
            "ordinal": None,
            "state": "present",
            "last_seen": BEGAN,
        }
        records.put_many(tables.CLIENTS, [*clients, ("evaluator", evaluator)])
        for name in self._combiners:
            here = sum(site.combiner == name for site in self._sites)
            document = {"combiner": name, "state": "present", "clients": here, "last_seen": BEGAN}
            records.put(tables.COMBINERS, name, document)

    def _write_seed(self, records: Records) -> str:
        document = documents.model("seed-0a1b2c3d4e5f", None, None, 0, BEGAN - 60)
        records.put(tables.MODELS, document["model"], document)
        return str(document["model"])

    # -- a session --------------------------------------------------------------------------------------------------

    def _write_session(
        self,
        records: Records,
        session: str,
        name: str,
        rounds: int,
        began: float,
        seed: str,
        age: int,
        position: int,
        state: str,
    ) -> tuple[str, float]:
        """Returns the last model, and the time of the session's end. `age`: the rounds in which the seed was trained."""
        policy = Policy(
            name=name,
            rounds=rounds if state == "finished" else rounds * 2,
            clients_required=2,
            timeout=TIMEOUT,
            random_seed=position,
            train={"epochs": 1, "learning_rate": 0.1 / (position + 1)},
        )
        # A session is created while the one before it still runs, and waits for its end in the queue.
        created = began - 60.0 * position
        queued = {"policy": policy.model_dump(mode="json"), "position": position}
        started = {"rounds": policy.rounds, "seed": seed}
        events: list[Document] = [
            documents.event("session.queued", session, None, created, "reducer", id=f"queued-{session}", **queued),
            documents.event("session.started", session, None, began, "reducer", id=f"started-{session}", **started),
        ]
        self._write_first_scores(records, session, seed, began, age, position)
        parent, clock = seed, began
        for number in range(1, rounds + 1):
            answers = [self._answer(site, age + number, clock, position) for site in self._sites]
            parent, ended = self._write_round(records, session, number, clock, parent, answers, events)
            clock = ended + 0.5
            if len(events) > BATCH:
                _flush(records, events)
        reason = "" if state == "finished" else "stopped by an operator"
        ending = {"model": parent, "reason": reason}
        last = documents.event(f"session.{state}", session, rounds, clock, "reducer", id=f"ended-{session}", **ending)
        _flush(records, [*events, last])
        record = SessionRecord(
            session=session,
            name=name,
            state="finished" if state == "finished" else "stopped",
            policy=policy.model_dump(mode="json"),
            reason=reason,
            seed=seed,
            random_seed=position,
            position=position,
            started_at=began,
            created_at=created,
            ended_at=clock,
            round=rounds,
            model=parent,
            announced=True,
        )
        records.put(tables.SESSIONS, session, record.document())
        return parent, clock

    def _write_queued(self, records: Records, at: float) -> None:
        policy = Policy(name="waits", rounds=5).model_dump(mode="json")
        record = SessionRecord(
            session="s-next", name="waits", state="queued", policy=policy, random_seed=2, position=2, created_at=at
        )
        records.put(tables.SESSIONS, record.session, record.document())
        data = {"policy": policy, "position": 2}
        _flush(records, [documents.event("session.queued", "s-next", None, at, "reducer", id="queued-s-next", **data)])

    def _write_first_scores(
        self, records: Records, session: str, seed: str, at: float, age: int, position: int
    ) -> None:
        """Writes this session's validations of the model that it starts from, and their summary."""
        answers = [self._answer(site, age, at, position) for site in self._sites]
        rows = documents.validations(session, 0, seed, at, answers, documents.test_score(answers))
        records.put_many(tables.VALIDATIONS, rows)
        metrics = summarize_validations((row["scope"], row["weight"], row["metrics"]) for _, row in rows)
        summary = SummaryRecord(session=session, model=seed, metrics=metrics, at=at)
        records.put(tables.SUMMARIES, summary.key, summary.document())

    def _answer(self, site: Site, number: int, began: float, position: int) -> Answer:
        source = self._random
        level = (0.1 if position else 0.0) * math.exp(-number / 10)
        accuracy = 0.97 - 0.6 * math.exp(-number / 12) - level + site.skill + source.gauss(0, 0.01)
        if site.mislabelled:
            accuracy = 0.3 + source.gauss(0, 0.02)
        accuracy = min(1.0, max(0.0, accuracy))
        score = {"accuracy": accuracy, "loss": -math.log(max(accuracy, 0.05))}
        fate = source.random()
        outcome, reason = next(
            ((outcome, reason) for limit, outcome, reason in documents.FATES if fate < limit), ("accepted", "")
        )
        train = site.pace * source.lognormvariate(0, 0.1)
        seconds = {
            "fetch": source.uniform(0.2, 1.5),
            "validate": train / 20,
            "train": train,
            "upload": source.uniform(0.3, 2.0),
            "fold": source.uniform(0.01, 0.05),
            "transit": source.uniform(0.0, 0.2),
        }
        seconds["total"] = sum(seconds[name] for name in ("fetch", "validate", "train", "upload")) + 0.1
        norm = 4.0 * math.exp(-number / 40) * source.lognormvariate(0, 0.15) * (3.0 if site.mislabelled else 1.0)
        at = began + seconds["total"] + seconds["fold"] + source.uniform(0.05, 1.0)
        if at > began + TIMEOUT:
            outcome, reason = "absent", documents.ABSENT
        measured = seconds if outcome in ("accepted", "rejected") else {}
        return Answer(
            site=site,
            outcome=outcome,
            reason=reason,
            norm=norm if outcome == "accepted" else None,
            at=None if outcome == "absent" else at,
            seconds=measured,
            score=score,
            is_late=outcome == "absent" and source.random() < 0.5,
        )

    def _write_round(
        self,
        records: Records,
        session: str,
        number: int,
        began: float,
        parent: str,
        answers: list[Answer],
        events: list[Document],
    ) -> tuple[str, float]:
        ended = max(began + TIMEOUT if answer.at is None else answer.at for answer in answers)
        key = keys.round_record(session, number)
        model = keys.committed_model(session, number, hashlib.sha256(key.encode()).hexdigest())
        counts: dict[str, int] = {name: sum(answer.outcome == name for answer in answers) for name in OUTCOMES}
        records.put(
            tables.ATTEMPTS,
            keys.attempt_record(session, number, 1),
            documents.attempt(session, number, began, parent, self._sites, self._combiners),
        )
        document = {
            "session": session,
            "round": number,
            "attempt": 1,
            "model": documents.ref(keys.model_blob(model)),
            "parent": documents.ref(keys.model_blob(parent)),
            "base": None,
            "optimizer": None,
            "ledger": documents.ref(keys.round_ledger_blob(session, number)),
            "total_weight": sum(answer.site.weight for answer in answers if answer.outcome == "accepted"),
            "counts": counts,
            "metrics": summarize([(1, {"loss": answer.score["loss"]}) for answer in answers]),
            "exponents": [-30, -30],
            "seconds": ended - began,
            "epoch": 1,
            "committed_at": ended,
            "bytes": {"down": MODEL_BYTES * len(answers), "up": MODEL_BYTES * counts["accepted"]},
        }
        records.put(tables.ROUNDS, key, document)
        records.put(
            tables.PARTICIPATION,
            keys.attempt_record(session, number, 1),
            documents.participation(session, number, answers),
        )
        # The evaluator is away in every tenth round.
        test = documents.test_score(answers) if number % 10 != 9 else None
        rows = documents.validations(session, number, model, ended, answers, test)
        records.put_many(tables.VALIDATIONS, rows)
        asked = ValidationRequest(combiner=self._combiners[0], clients=("evaluator",), at=ended)
        window = WindowRecord(session=session, round=number, model=model, requests=(asked,), closes_at=ended + TIMEOUT)
        records.put(tables.WINDOWS, window.key, window.document())
        metrics = summarize_validations((row["scope"], row["weight"], row["metrics"]) for _, row in rows)
        trail = documents.model(model, parent, session, number, ended) | {"metrics": metrics}
        records.put(tables.MODELS, model, trail)
        validated = [row for _, row in rows]
        events += documents.events_of(document, began, answers, validated, len(self._combiners), TIMEOUT)
        return model, ended

    def _write_troubles(self, records: Records, at: float) -> None:
        refused = {
            "reason": "the body is not msgpack (ExtraData: unpack(b) received extra data.)",
            "inbox": "fedmq.reducer.v1",
            "key": "update.reducer.client0007",
        }
        lost = {"reason": "no message from it arrived for three presence periods"}
        events = [
            documents.event("reducer.active", None, None, BEGAN, "reducer", epoch=1),
            documents.event("message.refused", None, None, at, "reducer", **refused),
            documents.event("combiner.vanished", None, None, at + 1, "reducer", combiner=self._combiners[-1], **lost),
            documents.event("combiner.joined", None, None, at + 2, "reducer", combiner=self._combiners[-1]),
        ]
        _flush(records, events)
        records.put(
            tables.SYSTEM,
            "queues",
            {"what": "queues", "at": at, "reason": "", "queues": documents.queues_of(self._sites, self._combiners)},
        )
        stores = [
            {"name": "models", "blobs": 121, "bytes": 121 * MODEL_BYTES, "is_more": False},
            {"name": "updates", "blobs": 4310, "bytes": 4190 * MODEL_BYTES, "is_more": False},
        ]
        disk = {"total": 512_000_000_000, "free": 187_000_000_000}
        records.put(tables.SYSTEM, "stores", {"what": "stores", "at": at, "reason": "", "stores": stores, "disk": disk})


def _flush(records: Records, events: list[Document]) -> None:
    records.put_many(tables.EVENTS, [(event["id"], event) for event in events])
    events.clear()


def generate(
    records: Records, clients: int = 1000, rounds: int = 100, combiners: int = 4, random_seed: int = 1
) -> None:
    """Writes the whole alliance into `records`."""
    Generator(clients, rounds, combiners, random_seed).write(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--combiners", type=int, default=4)
    parser.add_argument("--random-seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    records = SqliteRecords(options.state_dir / "records.db")
    generate(records, options.clients, options.rounds, options.combiners, options.random_seed)
    counted = ", ".join(f"{records.count(table)} {table}" for table in tables.TABLES)
    records.close()
    print(f"{counted} in {time.monotonic() - began:.1f} s\nNow: fedmq run dashboard --state-dir {options.state_dir}")


if __name__ == "__main__":
    main()

"""What a combiner writes: tasks, ledgers and partials, from a plan and what became of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from fedmq_combiner.operations import Closed
from fedmq_schemas.messages import Partial, Plan, Task, Update
from fedmq_schemas.records import Ledger, LedgerEntry, Outcome, count_outcomes


def task_seed(random_seed: int, round_number: int, client: str) -> int:
    """The seed of a task, 31 bits: from session, round and client, never from combiner, attempt or clock."""
    digest = hashlib.sha256(f"{random_seed}/{round_number}/{client}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def task_messages(plan: Plan, clients: Iterable[str], combiner: str, left: float) -> Iterator[Task]:
    """The clients' tasks, with `left` seconds to answer; their URLs are made when they are sent."""
    common = Task.model_construct(
        plan=plan.plan,
        client="",
        combiner=combiner,
        model=plan.model,
        model_url="",
        upload_key="",
        upload_url="",
        timeout=left,
        rounds=plan.rounds,
        seed=0,
        config=plan.config,
        weighting=plan.weighting,
        validate_model=plan.validate_model,
        base=plan.base,
        base_url="",
        clip_norm=plan.clip_norm,
    )
    for client in clients:
        seed = task_seed(plan.random_seed, plan.plan.round, client)
        yield common.model_copy(update={"client": client, "seed": seed})


def ledger_entry(
    client: str,
    update: Update | None,
    outcome: Outcome,
    reason: str,
    norm: float | None,
    seconds: dict[str, float],
    at: float,
) -> LedgerEntry:
    """`update`: None if the client declined. `at`: UTC seconds since 1970."""
    return LedgerEntry(
        client=client,
        outcome=outcome,
        reason=reason,
        weight=update.weight if update else 0,
        blob=update.blob if update else None,
        norm=norm,
        metrics=update.metrics if update else {},
        seconds=seconds,
        at=at,
    )


def ledger_of(plan: Plan, entries: tuple[LedgerEntry, ...]) -> Ledger:
    return Ledger.model_construct(
        session=plan.plan.session,
        round=plan.plan.round,
        attempt=plan.plan.attempt,
        parent=plan.model,
        exponents=plan.exponents,
        total_weight=sum(entry.weight for entry in entries if entry.outcome == "accepted"),
        entries=entries,
        plans=(plan.plan,),
        strategy={},
        optimizer=None,
    )


def partial_of(plan: Plan, ledger: Ledger, closed: Closed) -> Partial:
    return Partial(
        plan=plan.plan,
        epoch=plan.epoch,
        sum=closed.sum,
        ledger=closed.ledger,
        total_weight=closed.total_weight,
        counts=count_outcomes(ledger.entries),
    )

"""Makes tasks, ledgers and partials from a plan and the outcomes of its tasks. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from fedmq.reasons import count_alike, shortened
from fedmq_combiner.operations import Closed
from fedmq_combiner.plans import ClientAnswer, Verdict
from fedmq_schemas.limits import MOST_REASONS
from fedmq_schemas.messages import OutcomeReason, Partial, Plan, TaskMessage, Update
from fedmq_schemas.records import Ledger, LedgerEntry, count_outcomes


def task_seed(random_seed: int, round_number: int, client: str) -> int:
    """Returns a task's random seed of 31 bits. It does not depend on combiner, attempt or clock."""
    digest = hashlib.sha256(f"{random_seed}/{round_number}/{client}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def task_messages(plan: Plan, clients: Iterable[str], combiner: str, left: float) -> Iterator[TaskMessage]:
    """Yields the clients' tasks, with `left` seconds to answer. `TaskWriter` fills in their URLs."""
    for client in clients:
        yield TaskMessage(
            plan=plan.plan,
            client=client,
            combiner=combiner,
            model=plan.model,
            timeout=left,
            rounds=plan.rounds,
            seed=task_seed(plan.random_seed, plan.plan.round, client),
            config=plan.config,
            weighting=plan.weighting,
            validate_model=plan.validate_model,
            base=plan.base,
            clip_norm=plan.clip_norm,
            update=plan.update,
            personal=plan.personal,
        )


def ledger_entry(answer: ClientAnswer, verdict: Verdict, seconds: dict[str, float], at: float) -> LedgerEntry:
    """Returns the outcome of a client's task. `at`: UTC seconds since 1970."""
    update = answer.body if isinstance(answer.body, Update) else None
    return LedgerEntry(
        client=answer.client,
        outcome=verdict.outcome,
        reason=verdict.reason,
        weight=update.weight if update else 0,
        blob=verdict.blob or (update.blob if update else None),
        norm=verdict.norm,
        metrics=update.metrics if update else {},
        seconds=seconds,
        at=at,
        personal=update.personal if update else None,
    )


def ledger_of(plan: Plan, entries: tuple[LedgerEntry, ...]) -> Ledger:
    """Returns the ledger of a plan. `entries`: one for each client, sorted by client."""
    return Ledger(
        session=plan.plan.session,
        round=plan.plan.round,
        attempt=plan.plan.attempt,
        parent=plan.model,
        exponents=plan.exponents,
        total_weight=sum(entry.weight for entry in entries if entry.outcome == "accepted"),
        entries=entries,
        plans=(plan.plan,),
    )


def without(ledger: Ledger, rejected: Iterable[LedgerEntry]) -> Ledger:
    """Returns the ledger with these entries in place of their clients' accepted ones."""
    replaced = {entry.client: entry for entry in rejected}
    entries = tuple(replaced.get(entry.client, entry) for entry in ledger.entries)
    total_weight = sum(entry.weight for entry in entries if entry.outcome == "accepted")
    return ledger.model_copy(update={"entries": entries, "total_weight": total_weight})


def partial_of(plan: Plan, ledger: Ledger, closed: Closed) -> Partial:
    """Returns the answer to a plan whose partial and ledger are stored."""
    return Partial(
        plan=plan.plan,
        epoch=plan.epoch,
        sum=closed.sum,
        ledger=closed.ledger,
        total_weight=closed.total_weight,
        counts=count_outcomes(ledger.entries),
        reasons=_reasons_of(ledger.entries),
    )


def _reasons_of(entries: Iterable[LedgerEntry]) -> tuple[OutcomeReason, ...]:
    found = (
        OutcomeReason(outcome=entry.outcome, reason=shortened(entry.reason), count=1)
        for entry in entries
        if entry.outcome != "accepted"
    )
    return tuple(count_alike(found)[:MOST_REASONS])

"""What a record that the store refuses for good, and an exception in the core, cost: a message, or a session; nothing more.

Two sessions of three rounds with two clients. The record store refuses some of what clients state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, Body, ClientHello, Envelope, PlanKey, Validation
from fedmq_schemas.policy import Policy
from simulation.alliance import ALLIANCE, Simulation
from simulation.plans import FaultPlan, SimulatedClient

POISON = "poison"
"""The record store refuses a document with this name, as a server might for a reason of its own."""


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    policy = Policy(rounds=3, clients_required=2, validation_timeout=20.0)
    clients = tuple(SimulatedClient(f"client{number}", 10, 1.0) for number in (1, 2))
    plan = FaultPlan(1, "slack", ("reducer1",), {"combiner1": 0.0}, clients, (policy, policy), False, recorder=False)
    made = Simulation(plan)
    made.world.records.poison = POISON
    yield made
    made.close()


def send(simulation: Simulation, key: str, body: Body, message_id: str, at: float = 0.0) -> None:
    """Client 1 publishes a message `at` seconds from now."""
    sender = key.rpartition(".")[2]
    envelope = Envelope(kind=body.kind, id=message_id, alliance="sim", sender=sender, sent_at=0.0)
    data = codec.encode(envelope.__dict__, body.model_dump())
    outgoing = Outgoing(ALLIANCE.exchange(key.partition(".")[0]), key, data, message_id)
    simulation.world.scheduler.later(at, lambda: simulation.world.broker.connect(sender).publish(outgoing))


def validation(metrics: Mapping[str, Any], model: str, number: int = 1) -> Validation:
    plan = PlanKey(session="session1", round=number, action="validate")
    return Validation(plan=plan, model=f"models/{model}", scope="client", weight=1, metrics=dict(metrics))


def on_round(simulation: Simulation, number: int, act: Callable[[str], None]) -> None:
    """Calls `act` with the model's id once session 1 commits this round."""
    written = simulation.world.records.on_write

    def watch(table: str, key: str, old: Any, new: Mapping[str, Any]) -> None:
        written(table, key, old, new)
        if table == tables.ROUNDS and (new["session"], new["round"]) == ("session1", number):
            act(new["model"]["key"].removeprefix("models/"))

    simulation.world.records.on_write = watch


def states(simulation: Simulation) -> list[str]:
    """Returns how the sessions end. No message is left unsettled."""
    assert simulation.run(600.0)
    assert [actor.unsettled for actor in simulation.actors.values() if hasattr(actor, "unsettled")].count(0) == 4
    assert simulation.left_over() == [f"{len(refusals(simulation))} messages wait in {ALLIANCE.dead().name}"] * bool(
        refusals(simulation)
    )
    return [simulation.ended[name]["state"] for name in simulation.sessions]


def refusals(simulation: Simulation) -> list[str]:
    return [each for each in simulation.observed.errors if each.startswith("reducer refused a message: ")]


def take_overs(simulation: Simulation) -> int:
    """Returns how often a reducer has read the records."""
    found = simulation.world.records.inner.find("lease")
    return int(found[0]["epoch"])


def test_attaches_that_the_store_refuses_are_dead_letters_and_no_session_ends_for_them(simulation: Simulation) -> None:
    """One of them made the reducer start over for ever, and ended each running session after three times."""
    for number in range(50):
        send(simulation, "assignment.reducer.client3", Attach(labels={POISON: "x"}), f"a-{number}", at=4.0)
        send(simulation, "assignment.reducer.client1", Attach(labels={POISON: "x"}), f"b-{number}", at=30.0)

    assert states(simulation) == ["finished", "finished"]
    reasons = refusals(simulation)
    assert len(reasons) == 100 and all("RecordClients was refused: not a record" in each for each in reasons)
    assert take_overs(simulation) == 1


def test_a_client_that_the_store_refuses_is_no_member_although_its_combiner_reports_it(simulation: Simulation) -> None:
    send(simulation, "assignment.reducer.client3", Attach(labels={POISON: "x"}), "attach", at=4.0)
    send(simulation, "update.combiner1.client3", ClientHello(), "hello", at=4.0)

    assert states(simulation) == ["finished", "finished"]
    assert len(refusals(simulation)) == 1
    found = simulation.world.records.inner.find(tables.CLIENTS)
    assert sorted(each["client"] for each in found) == ["client1", "client2"]


def test_validations_that_the_store_refuses_are_dead_letters_and_the_session_goes_on(simulation: Simulation) -> None:
    """Three of them in a round ended the session."""
    for number in range(10):
        send(
            simulation,
            "update.reducer.client1",
            validation({POISON: 1.0}, "session1-0001-x"),
            f"v-{number}",
            at=5.0 + number / 10,
        )

    assert states(simulation) == ["finished", "finished"]
    assert len(refusals(simulation)) == 10
    assert take_overs(simulation) == 1


def test_validations_of_the_last_model_may_be_refused_and_the_session_ends(simulation: Simulation) -> None:
    def act(model: str) -> None:
        for client in ("client1", "client2"):
            send(simulation, f"update.reducer.{client}", validation({POISON: 1.0}, model, 3), f"last-{client}")

    on_round(simulation, 3, act)
    assert states(simulation) == ["finished", "finished"]
    assert len(refusals(simulation)) == 2
    assert take_overs(simulation) == 1


def test_a_ledger_that_the_store_refuses_costs_no_decision(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused name of `seconds` ended the session whose model was committed."""
    real = tables.Participation.document

    def poisoned(self: tables.Participation) -> dict[str, Any]:
        return {**real(self), POISON: 1}

    monkeypatch.setattr(tables.Participation, "document", poisoned)
    assert states(simulation) == ["finished", "finished"]
    assert take_overs(simulation) == 1


def test_metrics_that_the_store_refuses_cost_the_metrics_and_no_round(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmq_reducer.performers.aggregation_performer.summarize", lambda _: {POISON: {"mean": 1.0}})
    assert states(simulation) == ["finished", "finished"]
    rounds = simulation.world.records.inner.find(tables.ROUNDS)
    assert [each["metrics"] for each in rounds] == [{}] * 6
    assert take_overs(simulation) == 1


def test_an_exception_in_the_core_after_a_commit_ends_its_session_and_the_next_one_runs(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No session ever ended: the exception came again on the way to each end."""
    real = windows.record_summaries

    def breaking(context: ReducerContext, session: Session) -> None:
        if session.name == "session1":
            raise OverflowError("intermediate overflow in fsum")
        real(context, session)

    monkeypatch.setattr(windows, "record_summaries", breaking)
    assert states(simulation) == ["failed", "finished"]
    assert simulation.ended["session1"]["reason"] == ("internal error: OverflowError('intermediate overflow in fsum')")
    assert simulation.ended["session1"]["round"] == 3

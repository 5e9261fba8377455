"""A validation counts only from a client that may have such a task, of the session's model, in its own scope and weight."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq.errors import Refused
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.effects import Ack, Effect, Reject
from fedmq_reducer.operations import RecordLateValidation, RecordValidations
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.snapshot import SessionSnapshot, Snapshot
from fedmq_schemas import records as tables
from fedmq_schemas.messages import PlanKey, Validation
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import Participation, ValidationRecord
from support.cores import all_of, events, one

from .conftest import StartSession
from .driver import TERM, SessionDriver, client_record
from .records import attempt_record, round_record, session_record

HOMES = {"k1": ["c1", "c2", "evaluator"]}
TRAIN = PlanKey(session="s", round=1)


def claim(client: str, **changes: Any) -> Validation:
    """The validation of the seed by a client that is drawn for the first round, with changes."""
    scope = "test" if client == "evaluator" else "client"
    known = {"plan": TRAIN, "model": "models/seed", "scope": scope, "weight": 1, "metrics": {"loss": 0.5}}
    return Validation.model_validate(known | changes)


def counts(effects: list[Effect]) -> bool:
    """Whether a validation is recorded, and not rejected; fails if it is neither, or both."""
    recorded, rejected = all_of(effects, RecordValidations), all_of(effects, Reject)
    assert bool(recorded) != bool(rejected) and bool(events(effects, "model.validated")) == bool(recorded)
    return bool(recorded)


def refusal(effects: list[Effect]) -> str:
    assert not counts(effects)
    return one(effects, Reject).reason


@pytest.fixture
def drawn(start: StartSession) -> SessionDriver:
    """One of two clients is drawn for the first of two rounds, in which it validates the seed."""
    session = start(HOMES, rounds=2, clients_requested=1, validation="with_training")
    assert [plan.clients for plan in session.plan() if plan.plan.action == "train"] == [("c1",)]
    return session


# -- of an open session -------------------------------------------------------------------------------------------------


def test_a_validation_of_a_client_with_the_task_counts(drawn: SessionDriver) -> None:
    assert counts(drawn.receive(claim("c1"), "c1"))


@pytest.mark.parametrize(
    ("client", "changes", "reason"),
    [
        ("c2", {}, "client 'c2' has no task to validate in plan s/1/train/1/0"),
        ("stranger", {}, "'stranger' is no client of this alliance"),
        ("c1", {"scope": "test"}, "its scope is test, and client 'c1' trains: only an evaluator has a common test set"),
        ("c1", {"model": "models/other"}, "model 'models/other' is not what plan s/1/train/1/0 validates"),
        ("c1", {"plan": PlanKey(session="s", round=0)}, "model 'models/seed' is not what plan s/0/train/1/0 validates"),
        ("c1", {"plan": PlanKey(session="s", round=9)}, "model 'models/seed' is not what plan s/9/train/1/0 validates"),
        ("c1", {"weight": 10_000_001}, "its weight 10000001 is over 10000000, the policy's max_weight: raise it"),
    ],
)
def test_a_validation_that_claims_what_its_client_does_not_have_is_rejected(
    drawn: SessionDriver, client: str, changes: dict[str, Any], reason: str
) -> None:
    """It was recorded and averaged, without a check of its sender, session, model, round and scope."""
    assert refusal(drawn.receive(claim(client, **changes), client)).startswith(reason)


def test_a_validation_that_weighs_more_than_the_weighting_allows_is_rejected(start: StartSession) -> None:
    session = start(HOMES, rounds=2, validation="with_training", weighting="equal")
    session.plan()
    assert "over 1, the greatest weight with weighting = equal" in refusal(session.receive(claim("c1", weight=2), "c1"))
    assert counts(session.receive(claim("c1", weight=1), "c1"))
    assert counts(session.receive(claim("c2", weight=None), "c2"))


def test_a_validation_that_no_task_asks_for_is_rejected(start: StartSession) -> None:
    session = start(HOMES, rounds=2, validation="none")
    session.plan()
    seed = PlanKey(session="s", round=0, action="validate")
    assert "has no task to validate" in refusal(session.receive(claim("c1"), "c1"))
    assert "has no task to validate" in refusal(session.receive(claim("c1", plan=seed), "c1"))
    assert counts(session.receive(claim("evaluator", plan=seed), "evaluator"))


def test_a_client_that_the_policy_excludes_has_no_task_to_validate(start: StartSession) -> None:
    session = start(HOMES, rounds=2, validation="separate", clients={"exclude": ["c2"]})
    session.plan()
    seed = PlanKey(session="s", round=0, action="validate")
    assert "has no task to validate" in refusal(session.receive(claim("c2", plan=seed), "c2"))
    assert counts(session.receive(claim("c1", plan=seed), "c1"))


def test_a_late_validation_of_an_earlier_attempt_or_round_counts(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["c2"]}, rounds=3, validation="with_training")
    session.plan()
    session.next_plans(session.commit(1))
    assert counts(session.receive(claim("c1"), "c1")), "of the round before"
    second = claim("c2", plan=PlanKey(session="s", round=2), model="models/s-0001")
    assert counts(session.receive(second, "c2"))
    assert counts(session.receive(second, "c2")), "a message that is delivered again"


# -- after a take-over --------------------------------------------------------------------------------------------------


def test_a_reducer_that_takes_over_counts_validations_of_plans_that_it_does_not_know(start: StartSession) -> None:
    policy = Policy(rounds=3, clients_required=2, validation="separate", random_seed=1).model_dump(mode="json")
    following = attempt_record(2).model_copy(update={"model": round_record(1).model})
    before = SessionSnapshot(session_record(policy=policy), (round_record(1),), (following,))
    session = start(HOMES, Snapshot((before,), next_position=1))
    earlier = PlanKey(session="s", round=1, attempt=TERM - 1, part=4, action="validate")
    assert counts(session.receive(claim("c1", plan=earlier, model="models/s-0001"), "c1"))
    assert refusal(session.receive(claim("c1", plan=earlier), "c1")).startswith("model 'models/seed' is not what")
    first = PlanKey(session="s", round=0, attempt=TERM - 1, action="validate")
    assert counts(session.receive(claim("evaluator", plan=first), "evaluator"))


def test_a_reducer_that_takes_over_before_the_first_draw_counts_validations_of_the_first_model(
    start: StartSession,
) -> None:
    """They were dead letters: the model that the session starts from is not known before a draw."""
    policy = Policy(rounds=3, clients_required=4, validation="separate", random_seed=1).model_dump(mode="json")
    session = start(HOMES, Snapshot((SessionSnapshot(session_record(policy=policy), (), ()),), next_position=1))
    first = PlanKey(session="s", round=0, attempt=TERM - 1, action="validate")
    assert counts(session.receive(claim("c1", plan=first), "c1"))


def test_a_reducer_that_takes_over_knows_who_was_drawn_in_all_attempts_at_the_round(start: StartSession) -> None:
    policy = Policy(rounds=3, clients_required=1, validation="with_training", random_seed=1).model_dump(mode="json")
    second = attempt_record(1, 2)
    second = second.model_copy(update={"plans": second.plans[:1], "model": attempt_record().model})
    before = SessionSnapshot(session_record(policy=policy), (), (attempt_record(1, 1), second))
    session = start({"k1": ["c1", "c3"], "k2": ["c2"]}, Snapshot((before,), next_position=1))
    parent = {"model": "models/parent-of-1"}
    assert counts(session.receive(claim("c2", **parent), "c2")), "drawn for the first attempt"
    assert "has no task to validate" in refusal(session.receive(claim("c3", **parent), "c3"))


# -- of a session that has ended ----------------------------------------------------------------------------------------


def late(client: str, number: int = 1, **changes: Any) -> RecordLateValidation:
    scope = "test" if client == "evaluator" else "client"
    known = {"session": "s", "round": number, "model": f"s-{number:04d}", "client": client, "scope": scope, "weight": 1}
    return RecordLateValidation(ValidationRecord.model_validate(known | {"metrics": {}, "at": 1.0} | changes), TERM)


@pytest.fixture
def ended() -> SqliteRecords:
    """The records of a session with one round, of which an attempt names c1 and c2. Only evaluators validate else."""
    records = SqliteRecords(":memory:")
    known = [client_record(name, "k1") for name in ("c1", "c2", "c3", "evaluator")]
    for record in (round_record(1), attempt_record(1), session_record("finished"), *known):
        records.insert(record.table, record.key, record.document())
    return records


def write(records: SqliteRecords, effect: RecordLateValidation) -> None:
    RecordPerformer("holder", records).performers()[RecordLateValidation](effect)


def test_a_late_validation_of_a_client_that_an_attempt_names_is_recorded(ended: SqliteRecords) -> None:
    for effect in (late("c1"), late("c2", 0, model="seed"), late("evaluator")):
        write(ended, effect)
    assert ended.count(tables.VALIDATIONS, {}) == 3


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        (late("c3"), "client 'c3' had no task of session 's' with the model of round 1"),
        (late("c1", 2), "session 's' has made no model 's-0002' in round 2"),
        (late("c1", model="t-0001"), "session 's' has made no model 't-0001' in round 1"),
        (late("c1", -1, model="seed"), "session 's' has made no model 'seed' in round -1"),
        (late("c1", session="t"), "session 't' has made no model 's-0001' in round 1"),
        (late("evaluator", session="never"), "session 'never' has made no model 's-0001' in round 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_late_validation_that_no_record_supports_is_refused(
    ended: SqliteRecords, effect: RecordLateValidation, reason: str
) -> None:
    """It was recorded, without a check of its sender, session and model."""
    with pytest.raises(Refused, match=reason):
        write(ended, effect)
    assert ended.count(tables.VALIDATIONS, {}) == 0


def test_a_late_validation_of_a_client_that_was_never_drawn_counts_if_the_policy_lets_it_validate(
    ended: SqliteRecords,
) -> None:
    policy = {"validation": "separate", "clients": {"exclude": ["c4"], "fraction": 0.5}}
    ended.update(tables.SESSIONS, "s", {"policy": policy})
    excluded = client_record("c4", "k1")
    ended.insert(excluded.table, excluded.key, excluded.document())
    write(ended, late("c3"))
    for stranger in ("c4", "never"):
        with pytest.raises(Refused, match="had no task"):
            write(ended, late(stranger))


def test_a_late_validation_of_a_session_whose_attempts_are_deleted_needs_its_participation(
    ended: SqliteRecords,
) -> None:
    ended.delete(tables.ATTEMPTS, {"session": "s"})
    with pytest.raises(Refused):
        write(ended, late("c1"))
    columns: dict[str, Any] = {"outcomes": ("accepted",), "weights": (1,), "norms": (None,), "at": (None,)}
    taken = Participation(session="s", round=1, attempt=1, clients=("c1",), seconds={}, reasons={}, **columns)
    ended.insert(taken.table, taken.key, taken.document())
    write(ended, late("c1"))
    with pytest.raises(Refused):
        write(ended, late("c2"))


def test_a_late_validation_is_acknowledged_with_its_record(drawn: SessionDriver) -> None:
    drawn.stop()
    effects = drawn.receive(claim("c1"), "c1")
    assert one(effects, RecordLateValidation).record.key == "s/seed/c1" and effects[-2] == Ack((drawn.tag,))
    assert "its scope is test" in one(drawn.receive(claim("c1", scope="test"), "c1"), Reject).reason

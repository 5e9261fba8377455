"""What a view makes of events."""

import re
from datetime import datetime
from io import StringIO
from typing import Any

from rich.console import Console

from fedmq_cli.progress import SessionProgress, scores_text
from fedmq_cli.views import LiveView, PlainView, answers_text
from fedmq_schemas.messages import Event


def _event(name: str, round: int | None = None, client: str | None = None, **data: Any) -> Event:
    return Event.model_construct(name=name, session="s1", round=round, client=client, data=data)


def test_a_client_that_has_not_validated_in_time_is_absent() -> None:
    progress = SessionProgress(1)
    progress.feed(_event("update.accepted", 1, "a"))
    progress.feed(_event("validation.absent", 1, "a", model="m", reason="no answer in 30 s"))
    assert (progress.clients, progress.round(1).counts["absent"]) == ({"a": "absent"}, 0)


def test_a_round_counts_answers_until_its_commit_tells_them() -> None:
    progress = SessionProgress(2)
    progress.feed(_event("round.planned", 1, clients=3, attempt=1))
    progress.feed(_event("update.accepted", 1, "a"))
    progress.feed(_event("update.rejected", 1, "b", reason="NaN"))
    assert (progress.round(1).counts["accepted"], progress.round(1).counts["rejected"]) == (1, 1)
    counts = dict.fromkeys(("rejected", "discarded", "abstained", "failed", "absent"), 0) | {"accepted": 2}
    progress.feed(_event("round.committed", 1, model="m1", seconds=2.5, counts=counts))
    progress.feed(_event("update.discarded", 1, "b", reason="late"))
    assert progress.round(1).counts == counts
    assert progress.round(1).seconds == 2.5


def test_the_time_of_a_resumed_round_counts_from_its_resumption_and_says_so() -> None:
    committed = _event("round.committed", 2, seconds=3602.0, resumed_after=3600.0, counts={"accepted": 2})
    assert _lines(committed) == ["round 2 of 2: 2 of 2 accepted, 2.0 s since it was resumed"]
    assert _lines(_event("round.committed", 2, seconds=2.0, counts={"accepted": 2}))[0].endswith(", 2.0 s")


def test_a_round_that_was_planned_before_a_resumption_counts_whom_its_commit_names() -> None:
    progress, stream = SessionProgress(3), StringIO()
    view = PlainView(progress, stream)
    counts = dict.fromkeys(("rejected", "discarded", "abstained", "failed"), 0) | {"accepted": 4, "absent": 1}
    for event in (
        _event("update.accepted", 2, "a"),
        _event("round.committed", 2, model="m2", seconds=2.5, counts=counts),
    ):
        progress.feed(event)
        view.event(event)
    assert stream.getvalue() == "round 2 of 3: 4 of 5 accepted, 1 absent, 2.5 s\n"


def test_a_round_of_which_only_answers_are_known_does_not_say_of_how_many() -> None:
    progress = SessionProgress(3)
    progress.feed(_event("update.accepted", 2, "a"))
    assert answers_text(progress.round(2)) == "1 accepted"


def test_a_new_attempt_counts_anew() -> None:
    progress = SessionProgress(1)
    progress.feed(_event("round.planned", 1, clients=1, attempt=1))
    progress.feed(_event("update.failed", 1, "a"))
    progress.feed(_event("round.planned", 1, clients=2, attempt=2))
    assert progress.round(1).counts["failed"] == 0
    assert progress.round(1).asked == 2


def test_a_client_that_has_answered_is_not_shown_as_training_by_a_late_validation() -> None:
    progress = SessionProgress(3)
    progress.feed(_event("model.validated", 0, "a", scope="client", metrics={}))
    assert progress.clients["a"] == "training"
    progress.feed(_event("update.accepted", 1, "a"))
    progress.feed(_event("model.validated", 0, "a", scope="client", metrics={}))
    assert progress.clients["a"] == "accepted"
    progress.feed(_event("model.validated", 1, "a", scope="client", metrics={}))
    assert progress.clients["a"] == "training"


def test_events_of_other_sessions_are_left_out() -> None:
    progress = SessionProgress(1)
    progress.feed(_event("session.queued"))
    progress.feed(Event(name="round.planned", session="s2", round=1, data={"clients": 9, "attempt": 1}))
    assert progress.rounds == {}


def test_the_test_scores_are_finite_numbers_with_accuracy_first() -> None:
    progress = SessionProgress(1)
    metrics = {"loss": 0.5, "auc": 0.75, "accuracy": 0.96, "note": "x", "bad": float("nan")}
    progress.feed(_event("model.validated", 1, "e", scope="test", metrics=metrics))
    assert scores_text(progress.round(1).tests.summary, 1) == "accuracy 0.9600, loss 0.5000, auc 0.7500"


def test_many_clients_are_summed_up_in_one_line() -> None:
    progress = SessionProgress(1, clients={"a": "accepted", "b": "training 40 %", "c": "training 60 %"})
    assert progress.summary() == "1 accepted, 2 training"


def test_a_session_that_waits_says_for_what_and_until_when() -> None:
    progress = SessionProgress(1)
    until = datetime(2026, 1, 2, 14, 5).timestamp()
    progress.feed(_event("session.waiting", reason="waiting for clients, 2 of 3", waiting_until=until))
    assert progress.state == "waiting"
    assert progress.reason == "waiting for clients, 2 of 3, until 14:05"


def _session(name: str, seconds: float, *scores: float) -> list[Event]:
    """Returns the events of a session that makes one model a round, each scored by one client."""
    events = [Event(name="session.queued", session=name, data={"policy": {"rounds": len(scores) - 1}})]
    for number, loss in enumerate(scores):
        if number:
            data = {"seconds": seconds, "counts": {"accepted": 1}}
            events.append(Event(name="round.committed", session=name, round=number, data=data))
        data = {"scope": "client", "metrics": {"loss": loss}}
        events.append(Event(name="model.validated", session=name, round=number, client="a", data=data))
    return [*events, Event(name="session.finished", session=name)]


def test_rounds_and_models_count_on_through_the_sessions_of_a_sandbox() -> None:
    progress, stream = SessionProgress(1, rounds_before=2), StringIO()
    view = PlainView(progress, stream)
    for event in (*_session("s1", 1.0, 5, 4), *_session("s2", 1.0, 4, 3, 2)):
        progress.feed(event)
        view.event(event)
    assert stream.getvalue().splitlines() == [
        "model 2: loss 5.0000 (own data of 1 client)",
        "round 3 of 3: 1 of 1 accepted, 1.0 s",
        "model 3: loss 4.0000 (own data of 1 client)",
        "round 4 of 5: 1 of 1 accepted, 1.0 s",
        "model 4: loss 3.0000 (own data of 1 client)",
        "round 5 of 5: 1 of 1 accepted, 1.0 s",
        "model 5: loss 2.0000 (own data of 1 client)",
    ]


def test_a_note_is_printed_once_beside_its_first_client() -> None:
    progress, stream = SessionProgress(2), StringIO()
    view = PlainView(progress, stream)
    for name, client, data in (
        ("update.accepted", "a", {"notes": ["metric 'm' is not kept"]}),
        ("update.accepted", "b", {"notes": ["metric 'm' is not kept"]}),
        ("model.validated", "b", {"scope": "client", "metrics": {}, "reason": "validate raised X", "notes": ["n"]}),
        ("update.accepted", "b", {"notes": ["validate raised X"]}),
    ):
        event = _event(name, 1, client, **data)
        progress.feed(event)
        view.event(event)
    assert stream.getvalue().splitlines() == ["a: metric 'm' is not kept", "b: n", "b: validate raised X"]


def test_a_note_of_further_clients_is_counted_once_at_the_end_of_the_attempt() -> None:
    noted = [_event("update.accepted", 1, client, notes=["n"]) for client in ("a", "b", "c", "b")]
    over = [_event("round.committed", number, seconds=2.0, counts={"accepted": 3}) for number in (1, 2)]
    lines = _lines(*noted, over[0], _event("update.accepted", 2, "d", notes=["n"]), over[1], *noted, over[1])
    assert [line for line in lines if not line.startswith("round")] == ["a: n", "2 more clients: n", "1 more client: n"]


def test_the_live_table_shows_notes_with_the_number_of_clients() -> None:
    progress, stream = SessionProgress(1), StringIO()
    for client in ("a", "b", "c"):
        progress.feed(_event("update.accepted", 1, client, notes=["metric 'm' is not kept"]))
    with LiveView(progress, Console(file=stream, force_terminal=True)):
        pass
    assert "a and 2 more: metric 'm' is not kept" in stream.getvalue()


def test_the_clients_means_and_the_trainings_are_kept_beside_the_test_scores() -> None:
    progress = SessionProgress(2)
    progress.feed(_event("round.planned", 1, clients=2, attempt=1))
    progress.feed(_event("round.committed", 1, seconds=1.0, counts={}, metrics={"loss": {"mean": 0.5, "n": 2.0}}))
    for client, weight, accuracy in (("a", 1, 0.0), ("b", 3, 1.0), ("b", 3, 0.5)):
        metrics = {"accuracy": accuracy}
        progress.feed(_event("model.validated", 1, client, scope="client", weight=weight, metrics=metrics))
    at = progress.round(1)
    assert at.training == {"loss": {"mean": 0.5, "n": 2.0}}
    assert (at.own.summary["accuracy"]["mean"], at.tests.summary) == (0.375, {})


def _lines(*events: Event) -> list[str]:
    progress, stream = SessionProgress(2), StringIO()
    view = PlainView(progress, stream)
    for event in events:
        progress.feed(event)
        view.event(event)
    return stream.getvalue().splitlines()


def test_plain_lines_show_the_clients_means_when_their_round_is_over_and_why_there_is_no_test_score() -> None:
    committed: dict[str, Any] = {"seconds": 2.0, "counts": {"accepted": 1}, "metrics": {"loss": {"mean": 0.5}}}
    own: dict[str, Any] = {"scope": "client", "weight": 10, "metrics": {"loss": 0.25}}
    untested: dict[str, Any] = {
        "scope": "test",
        "weight": None,
        "metrics": {},
        "reason": "the package states no test set",
    }
    assert _lines(
        _event("round.planned", 1, clients=1, attempt=1),
        _event("model.validated", 0, "e", **untested),
        _event("model.validated", 0, "a", **own),
        _event("round.committed", 1, **committed),
        _event("model.validated", 1, "e", **untested),
        _event("round.planned", 2, clients=1, attempt=1),
        _event("model.validated", 1, "a", **own),
        _event("round.committed", 2, **committed),
        _event("model.validated", 2, "a", **own),
        _event("session.finished"),
    ) == [
        "e: the package states no test set",
        "model 0: loss 0.2500 (own data of 1 client)",
        "round 1 of 2: 1 of 1 accepted, 2.0 s, training: loss 0.5000",
        "model 1: loss 0.2500 (own data of 1 client)",
        "round 2 of 2: 1 of 1 accepted, 2.0 s, training: loss 0.5000",
        "model 2: loss 0.2500 (own data of 1 client)",
    ]


NAN = float("nan")


def _scored(*of_each: dict[str, float]) -> list[Event]:
    """Returns the events of a model that these clients scored on their own data, and of the end of its session."""
    validated = [
        _event("model.validated", 1, f"client{number}", scope="client", weight=1, metrics=metrics)
        for number, metrics in enumerate(of_each, 1)
    ]
    return [*validated, _event("session.finished")]


def test_the_count_beside_a_mean_is_that_of_its_values() -> None:
    one_is_missing = _scored({"mse": 1.0}, {"mse": NAN}, {"mse": 2.0}, {"mse": 3.0})
    assert _lines(*one_is_missing) == ["model 1: mse 2.0000 (own data of 3 of 4 clients)"]
    all_but_one = _scored({"mse": NAN}, {"mse": 2.0})
    assert _lines(*all_but_one) == ["model 1: mse 2.0000 (own data of 1 of 2 clients)"]
    of_one_metric = _scored({"loss": 1.0, "mse": NAN}, {"loss": 1.0, "mse": 2.0})
    assert _lines(*of_one_metric) == ["model 1: loss 1.0000, mse 2.0000 (1 of 2) (own data of 2 clients)"]
    assert _lines(*_scored({"mse": NAN})) == []


def test_a_client_whose_validation_failed_counts_among_those_whose_data_a_mean_is_of() -> None:
    own: dict[str, Any] = {"scope": "client", "weight": 1, "metrics": {"mse": 2.0}}
    failed: dict[str, Any] = {"scope": "client", "weight": None, "metrics": {}, "reason": "validate raised KeyError"}
    committed: dict[str, Any] = {"seconds": 2.0, "counts": {"accepted": 3}}
    answers = [(number, client) for number in (0, 1) for client in ("a", "b", "c")]
    events = [
        _event("model.validated", number, client, **(failed if client == "b" else own)) for number, client in answers
    ]
    shown = _lines(*events[:3], _event("round.committed", 1, **committed), *events[3:], _event("session.finished"))
    assert [line for line in shown if line.startswith("model")] == [
        "model 0: mse 2.0000 (own data of 2 of 3 clients)",
        "model 1: mse 2.0000 (own data of 2 of 3 clients)",
    ]


def test_a_model_is_shown_once_all_have_scored_it_also_if_a_score_is_in_no_mean() -> None:
    committed: dict[str, Any] = {"seconds": 2.0, "counts": {"accepted": 2}}
    *scored, _ = _scored({"mse": NAN}, {"mse": 2.0})
    assert _lines(_event("round.committed", 2, **committed), *scored) == [
        "round 2 of 2: 2 of 2 accepted, 2.0 s",
        "model 1: mse 2.0000 (own data of 1 of 2 clients)",
    ]
    assert len(_lines(_event("round.committed", 2, **committed), scored[1])) == 1


def test_the_mean_of_trainings_says_of_how_many_it_is_if_not_of_all() -> None:
    summary = {"loss": {"mean": 0.5, "n": 1.0}}
    assert _lines(_event("round.committed", 1, seconds=2.0, counts={"accepted": 2}, metrics=summary)) == [
        "round 1 of 2: 2 of 2 accepted, 2.0 s, training: loss 0.5000 (1 of 2)"
    ]


def test_the_live_table_marks_a_mean_that_is_not_of_all_values() -> None:
    progress, stream = SessionProgress(1, "s1"), StringIO()
    view = LiveView(progress, Console(file=stream, width=150, force_terminal=True, color_system=None))
    with view:
        for event in _scored({"mse": 1.0}, {"mse": NAN}):
            progress.feed(event)
            view.event(event)
    assert "mse 1.0000 (1 of 2)" in stream.getvalue()


def test_the_live_table_has_a_column_for_each_kind_of_metric() -> None:
    progress, stream = SessionProgress(1, "s1"), StringIO()
    view = LiveView(progress, Console(file=stream, width=150, force_terminal=True, color_system=None))
    with view:
        for event in (
            _event("round.planned", 1, clients=1, attempt=1),
            _event("round.committed", 1, seconds=2.0, counts={}, metrics={"loss": {"mean": 0.1}}),
            _event("model.validated", 1, "a", scope="client", weight=1, metrics={"loss": 0.2}),
            _event("model.validated", 1, "e", scope="test", weight=1, metrics={"loss": 0.3}),
            _event("model.validated", 1, "f", scope="test", weight=None, metrics={}, reason="no test set"),
        ):
            progress.feed(event)
            view.event(event)
    shown = stream.getvalue()
    assert re.search(r"test +clients' own data +training", shown)
    assert re.search(r"loss 0.3000 +loss 0.2000 +loss 0.1000", shown)
    assert "f: no test set" in shown


def test_the_next_session_of_a_sandbox_is_shown_with_its_own_rounds() -> None:
    progress = SessionProgress(2)
    progress.feed(_event("session.queued", policy={"rounds": 2}))
    progress.feed(_event("round.planned", 1, clients=3, attempt=1))
    following = Event(name="session.queued", session="s2", data={"policy": {"rounds": 4}})
    progress.feed(following)
    assert progress.session == "s1", "a session that runs is not left"
    progress.feed(_event("session.finished"))
    progress.feed(following)
    assert (progress.session, progress.rounds_wanted, progress.rounds) == ("s2", 4, {})

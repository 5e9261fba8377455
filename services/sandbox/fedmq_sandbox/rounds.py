"""What a sandbox has made: its committed rounds and their models, read from the records and blobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

from fedmq.blobs.base import Blobs
from fedmq.errors import NotFound, Refused
from fedmq.metrics import summarize_validations
from fedmq.model_files.formats import ModelFile
from fedmq.records.base import Records
from fedmq.tensors import tensorblob
from fedmq.tensors.splitting import join
from fedmq_reducer.retention import check_kept
from fedmq_reducer.selection import best_model, has_own_tensors
from fedmq_sandbox.changes import ChangeCount
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Event


@dataclass(frozen=True, slots=True)
class CommittedRound:
    """A committed round.

    - `number`: from 1, counted on through the sessions of a folder.
    - `session`: the session that made it. `model`: the id of the model that the round made.
    - `metrics`: the mean of each metric that validations of this model found. Names with the prefix `test/` are the
      evaluator's, the others are of the clients' own data.
    - `training`: the mean of each metric that the trainers reported with their updates.
    - `counts`: the number of clients by outcome: accepted, rejected, discarded, abstained, and so on.
    - `seconds`: from the round's plan to its commit; of a round that a stop interrupted, from its resumption.
    - `is_tested`: whether the evaluator has answered, with metrics or without. `scorers`: the number of clients that have,
      which may be more than the values in a mean.
    - `values`: the number of values in each mean, by the name of the metric; those of `training` begin with `training/`.
    """

    number: int
    session: str
    model: str
    metrics: dict[str, float]
    training: dict[str, float]
    counts: dict[str, int]
    seconds: float
    is_tested: bool
    scorers: int
    values: dict[str, int]


def committed_rounds(records: Records, sessions: Sequence[str], after: int = 0) -> Iterator[CommittedRound]:
    """Yields the committed rounds of these sessions, in order, whose model is recorded and whose number is above `after`.

    Their numbers count on from one session to the next, which begins when the one before has ended.
    """
    before = 0
    for session in sessions:
        for each in _rounds_of(records, session, max(0, after - before)):
            yield replace(each, number=before + each.number)
        document = records.get(tables.SESSIONS, session)
        if document is None or document["state"] not in tables.ENDED:
            return
        before += document["round"] or 0


def follow_rounds(
    records: Records,
    sessions: Sequence[str],
    ended: Future[dict[str, Any]],
    changes: ChangeCount,
    awaited: tuple[int | None, bool],
) -> Iterator[CommittedRound]:
    """Yields each committed round of these sessions once, as `Sandbox.rounds` describes. Raises what `ended` raises.

    `awaited`: the number of clients that validate each model in tasks of their own, or None if those of the next round do;
    and whether an evaluator does.
    """
    number, (scorers, has_evaluator) = 0, awaited
    while True:
        seen, is_over = changes.count, ended.done()
        found = list(committed_rounds(records, sessions, number))
        for each in found:
            is_scored = each is not found[-1] if scorers is None else each.scorers >= scorers
            if not (is_over or (is_scored and (each.is_tested or not has_evaluator))):
                break
            number = each.number
            yield each
        if is_over:
            ended.result()
            return
        changes.wait(seen)


def check_not_failed(records: Records, session: Mapping[str, Any], is_earlier: bool) -> None:
    """Raises Refused if the session of this record has failed: its reason, with a traceback as a note.

    `is_earlier`: whether it failed in an earlier run. The text then has the remedy.
    """
    if session["state"] == "failed":
        when = " in an earlier run, and is not run again" if is_earlier else ""
        remedy = "; to train with the package as it is now, give another state_dir" if is_earlier else ""
        error = Refused(f"session {session['session']} failed{when}: {session['reason']}{remedy}")
        for event in records.find(tables.EVENTS, {"session": session["session"], "name": "update.failed"}, limit=1):
            error.add_note(event["data"].get("traceback", ""))
        raise error


def _rounds_of(records: Records, session: str, after: int) -> Iterator[CommittedRound]:
    for document in records.find(tables.ROUNDS, {"session": session}, order="round", after=after):
        model = keys.model_id(document["model"]["key"])
        scores = records.find(tables.VALIDATIONS, {"session": session, "model": model})
        recorded = records.get(tables.MODELS, model)
        if recorded is None:  # a round is recorded before its model, and readers may come between
            return
        tests = sum(each["scope"] == "test" for each in scores)
        known = summarize_validations((each["scope"], each["weight"], each["metrics"]) for each in scores)
        metrics, training = known or recorded["metrics"], document["metrics"]
        named = metrics | {f"training/{name}": summary for name, summary in training.items()}
        yield CommittedRound(
            number=document["round"],
            session=session,
            model=model,
            metrics=_means(metrics),
            training=_means(training),
            counts=document["counts"],
            seconds=document["seconds"] - document.get("resumed_after", 0.0),
            is_tested=tests > 0,
            scorers=len(scores) - tests,
            values={name: int(summary["n"]) for name, summary in named.items()},
        )


def recorded_events(records: Records, session: str) -> Iterator[Event]:
    """Yields the commits and validations that are recorded of a session, as events: views of a resumed session need them."""
    for each in records.find(tables.ROUNDS, {"session": session}, order="round"):
        data: dict[str, Any] = {name: each[name] for name in ("seconds", "counts", "metrics")}
        data["resumed_after"] = each.get("resumed_after", 0.0)
        yield Event(name="round.committed", session=session, round=each["round"], data=data)
    for each in records.find(tables.VALIDATIONS, {"session": session}):
        data = {name: each[name] for name in ("scope", "weight", "metrics")}
        yield Event(name="model.validated", session=session, round=each["round"], client=each["client"], data=data)


def model_of(
    records: Records, sessions: Sequence[str], model: str, metric: str | None, mode: Literal["max", "min"] | None
) -> dict[str, Any]:
    """Returns a model's record: by id, or the `last` or `best` one that these sessions made. Raises NotFound."""
    if model not in ("last", "best"):
        document = records.get(tables.MODELS, model)
        if document is None:
            raise NotFound(f"there is no model {model!r}")
        return document
    made = [each for name in sessions for each in records.find(tables.MODELS, {"session": name}, order="round")]
    if not made:
        raise NotFound("the session has made no model yet")
    if model == "last":
        return made[-1]
    session_record = records.get(tables.SESSIONS, made[-1]["session"])
    assert session_record is not None
    policy = session_record["policy"]
    select = policy["select"]
    return best_model(made, metric or select["metric"], mode or select["mode"], has_own_tensors(policy))


def read_model(blobs: Blobs, document: dict[str, Any]) -> ModelFile:
    """Returns a whole model. Tensors that do not travel are those of its base: frozen ones, and local ones as in the seed.

    Raises Gone if retention has deleted the model.
    """
    check_kept(document)
    weights, meta = tensorblob.decode(blobs.get(document["ref"]["key"]))
    if document["base"] is not None:
        weights, meta = join(weights, meta, *tensorblob.decode(blobs.get(document["base"]["key"])))
    return ModelFile(weights, meta)


def _means(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: summary["mean"] for name, summary in metrics.items()}

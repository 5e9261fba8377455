"""Spans of a round's trace, and their ids, which every process derives by itself. Knows nothing of OpenTelemetry.

A trace is a round: `round` (reducer) > `assignment` of a part of its clients to a combiner (reducer) > `job` (combiner)
> `update` of a client (combiner) > `task` (client) > `fetch`, `train` and `upload` (client).

An id is a hash of names that the messages hold anyway: session and round, the plan's key, the client, the id of the task's
message. So no message carries a context, a redelivered message has the same span, and each span's parent is known.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fedmq.value import value
from fedmq_schemas.messages import PlanKey

MOST_KEPT = 20_000
"""Most spans that are kept open, and most ended ones that are known. A span that nobody ends is forgotten at last."""

Attribute = str | int | float


class SpanKey(NamedTuple):
    """Names a span: the round, and the kinds and names of the spans from `round` down to this one."""

    session: str
    round: int
    path: tuple[tuple[str, str], ...]

    @property
    def kind(self) -> str:
        """What the span is of, such as `task`."""
        return self.path[-1][0]

    @property
    def parent(self) -> SpanKey | None:
        """The span that this one belongs to; None for the round."""
        return self._replace(path=self.path[:-1]) if len(self.path) > 1 else None

    def child(self, kind: str, name: str = "") -> SpanKey:
        """Returns the key of a part of this span. `name` distinguishes parts of one kind."""
        return self._replace(path=(*self.path, (kind, name)))


def round_span(session: str, number: int) -> SpanKey:
    """Returns the key of a round's span."""
    return SpanKey(session, number, (("round", ""),))


def assignment_span(session: str, number: int, plan: str) -> SpanKey:
    """Returns the key of the span from a plan to its partial, as the reducer sees it. `plan`: the plan's key as text."""
    return round_span(session, number).child("assignment", plan)


def job_span(plan: PlanKey) -> SpanKey:
    """Returns the key of a combiner's work for a plan."""
    return assignment_span(plan.session, plan.round, str(plan)).child("job")


def update_span(plan: PlanKey, client: str) -> SpanKey:
    """Returns the key of the span from a client's task to its outcome, as the combiner sees it."""
    return job_span(plan).child("update", client)


def task_span(plan: PlanKey, client: str, message_id: str) -> SpanKey:
    """Returns the key of a client's work for the message that requested it."""
    return update_span(plan, client).child("task", message_id)


def trace_id(alliance: str, key: SpanKey) -> int:
    """Returns the id of the trace, of 128 bits: one for each round of an alliance."""
    return _hash(16, alliance, key.session, str(key.round))


def span_id(alliance: str, key: SpanKey) -> int:
    """Returns the id of the span, of 64 bits."""
    return _hash(8, alliance, key.session, str(key.round), *(text for step in key.path for text in step))


def _hash(size: int, *texts: str) -> int:
    """Returns a hash of the texts. No two lists of texts are joined to the same one, as each is written with its length."""
    joined = "".join(f"{len(text)}:{text}" for text in texts)
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:size]) or 1  # 0 is no valid id


@value
class TraceSpan:
    """A span that has ended. `began` and `ended`: UTC seconds since 1970. `reason`: why it failed; "" if it did not."""

    kind: str
    trace_id: int
    span_id: int
    parent_id: int | None
    began: float
    ended: float
    reason: str
    attributes: Mapping[str, Attribute]


class OpenSpans:
    """The open spans of one process. `export` receives each one that has ended, once. `wall`: UTC seconds since 1970."""

    def __init__(self, alliance: str, wall: Callable[[], float], export: Callable[[TraceSpan], None]) -> None:
        self.wall = wall
        self._alliance = alliance
        self._export = export
        self._open: OrderedDict[SpanKey, float] = OrderedDict()
        self._ended: OrderedDict[SpanKey, None] = OrderedDict()

    def begin(self, key: SpanKey) -> None:
        """Begins a span. Does nothing if it is open or has ended: a message was repeated."""
        if key not in self._open and key not in self._ended:
            self._open[key] = self.wall()
            _limit(self._open)

    def end(self, key: SpanKey, reason: str = "", **attributes: Attribute) -> None:
        """Ends a span. It has failed if there is a `reason`. Does nothing if it is not open."""
        began = self._open.get(key)
        if began is not None:
            self.add(key, began, self.wall(), reason, **attributes)

    def add(self, key: SpanKey, began: float, ended: float, reason: str = "", **attributes: Attribute) -> None:
        """Adds a span of which all is known, open or not. Does nothing if it has ended."""
        self._open.pop(key, None)
        if key in self._ended:
            return
        self._ended[key] = None
        _limit(self._ended)
        parent = key.parent
        self._export(
            TraceSpan(
                kind=key.kind,
                trace_id=trace_id(self._alliance, key),
                span_id=span_id(self._alliance, key),
                parent_id=None if parent is None else span_id(self._alliance, parent),
                began=began,
                ended=max(began, ended),
                reason=reason,
                attributes={"session": key.session, "round": key.round, **attributes},
            )
        )

    def end_below(self, key: SpanKey, reason: str) -> None:
        """Ends a span and all open ones below it. They have failed for this reason."""
        depth = len(key.path)
        below = [each for each in self._open if each[:2] == key[:2] and each.path[:depth] == key.path]
        for each in sorted(below, key=lambda each: -len(each.path)):
            self.end(each, reason)

    def end_session(self, session: str, reason: str) -> None:
        """Ends all open spans of a session. They have failed for this reason."""
        for number in {key.round for key in self._open if key.session == session}:
            self.end_below(round_span(session, number), reason)


def _limit(kept: OrderedDict[SpanKey, float] | OrderedDict[SpanKey, None]) -> None:
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)

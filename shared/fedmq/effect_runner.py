"""Carries out groups of effects: each in its order, lanes across groups, joined where they can be, again after an outage."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from fedmq import effects
from fedmq.effects import CoreEvent, Effect
from fedmq.errors import FedMQError, ProtocolError, Transient
from fedmq.scheduler import Scheduler

log = logging.getLogger("fedmq")

FIRST_RETRY = 0.1
LAST_RETRY = 5.0
MOST_JOINED = 200

Performer = Callable[[Any], Any]

_UNHINDERED = (effects.Publish, effects.PublishEvent)
"""They start while earlier publishes of their group are not confirmed."""


class EffectGroup:
    """The rest of one `handle` call's effects, the next one last, and how many of its publishes are not confirmed yet."""

    __slots__ = ("cause", "dropped", "effects", "unconfirmed", "waiting")

    def __init__(self, cause: str | None) -> None:
        self.effects: list[Effect | Slot] = []
        self.cause = cause
        self.unconfirmed = 0
        self.waiting = False
        self.dropped = False


class Slot:
    """An effect's place in its lane, taken when the core asked for it; `is_asked` once its group has come to it."""

    __slots__ = ("effect", "group", "is_asked", "lane")

    def __init__(self, effect: effects.Perform, group: EffectGroup, lane: Lane) -> None:
        self.effect = effect
        self.group = group
        self.lane = lane
        self.is_asked = False


class Lane:
    """Effects that are performed in the order in which the core decided on them, one at a time or joined into one.
    `alone`: so many at its head are not joined, as one of them was refused."""

    __slots__ = ("alone", "is_busy", "slots")

    def __init__(self) -> None:
        self.slots: deque[Slot] = deque()
        self.alone = 0
        self.is_busy = False

    def head(self) -> tuple[effects.Perform, list[EffectGroup]]:
        """What is to be performed next, and the groups that it is for."""
        effect, groups = self.slots[0].effect, [self.slots[0].group]
        if self.alone:
            self.alone -= 1
            return effect, groups
        for slot in islice(self.slots, 1, MOST_JOINED):
            joined = effect.joined(slot.effect) if slot.is_asked and not slot.group.dropped else None
            if joined is None:
                break
            effect = joined
            groups.append(slot.group)
        return effect, groups


class Job:
    """An effect to be performed, for the groups that wait for it, if any does; `wait`: seconds until it is tried again."""

    __slots__ = ("cause", "effect", "groups", "lane", "wait")

    def __init__(
        self, effect: effects.Perform, groups: Sequence[EffectGroup], cause: str | None, lane: Lane | None = None
    ) -> None:
        self.effect = effect
        self.groups = groups
        self.cause = cause
        self.lane = lane
        self.wait = FIRST_RETRY


class EffectRunner:
    """Runs one actor's groups, on the scheduler's thread.

    `performers`: for each Perform effect's type, the function that does it; it may raise FedMQError. `offload`: all of
    them run off the thread. `built_in` does every other effect and may raise ProtocolError. `report` hands the core what
    became of an effect, `report_bug` receives an exception that is no FedMQError, `on_end` is called
    when something under way has ended.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        performers: Mapping[type[Effect], Performer],
        *,
        offload: bool,
        built_in: Callable[[Effect, EffectGroup], None],
        report: Callable[[CoreEvent, str | None], None],
        report_bug: Callable[[str, Exception], None],
        on_end: Callable[[], None],
    ) -> None:
        self._name = name
        self._scheduler = scheduler
        self._performers = dict(performers)
        self._offload = offload
        self._built_in = built_in
        self._report = report
        self._report_bug = report_bug
        self._on_end = on_end
        self._lanes: dict[str, Lane] = {}
        self._has_lanes = any(getattr(kind, "lane", None) is not None for kind in performers)
        self._queued: list[Job] = []
        self._in_flight = 0
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no effect is under way."""
        return self._in_flight == 0

    def close(self) -> None:
        """Starts nothing more."""
        self._closed = True

    def run(self, answer: Sequence[Effect], cause: str | None) -> None:
        """Starts a group; `cause` is the id of the message that led to it."""
        group = EffectGroup(cause)
        group.effects.extend(self._placed(answer, group) if self._has_lanes else answer)
        group.effects.reverse()
        self._advance(group)

    def _placed(self, answer: Sequence[Effect], group: EffectGroup) -> Iterator[Effect | Slot]:
        """The effects, those of a lane with their place in it."""
        for effect in answer:
            if not isinstance(effect, effects.Perform) or effect.lane is None:
                yield effect
                continue
            lane = self._lanes.setdefault(effect.lane, Lane())
            slot = Slot(effect, EffectGroup(group.cause) if effect.independent else group, lane)
            lane.slots.append(slot)
            yield slot

    def confirmation(self, effect: Effect, group: EffectGroup) -> Callable[[FedMQError | None], None]:
        """For a publish that the group is to wait for: what to call when it is confirmed or refused."""
        group.unconfirmed += 1
        self._in_flight += 1

        def confirmed(error: FedMQError | None) -> None:
            group.unconfirmed -= 1
            self._in_flight -= 1
            if error is not None:
                self._fail(effect, error, group)
            elif not group.unconfirmed:
                self._advance(group)
            self._on_end()

        return confirmed

    def _advance(self, group: EffectGroup) -> None:
        """Starts effects of the group until one has to be waited for."""
        if group.waiting:
            return
        while group.effects and not self._closed and not group.dropped:
            effect = group.effects[-1]
            if group.unconfirmed and not isinstance(effect, _UNHINDERED):
                return
            group.effects.pop()
            if isinstance(effect, Slot):
                effect.is_asked = effect.group.waiting = True
                self._run_lane(effect.lane)
                if effect.group is group:
                    return
            elif isinstance(effect, effects.Perform):
                if not effect.independent:
                    self._perform(Job(effect, (group,), group.cause))
                    return
                self._perform(Job(effect, (), group.cause))
            else:
                try:
                    self._built_in(effect, group)
                except ProtocolError as error:
                    self._fail(effect, error, group)

    def _run_lane(self, lane: Lane) -> None:
        """Performs what is asked for at the head of the lane, if nothing of it is under way."""
        while lane.slots and lane.slots[0].group.dropped and not lane.is_busy:
            lane.slots.popleft()
        if lane.slots and lane.slots[0].is_asked and not lane.is_busy and not self._closed:
            lane.is_busy = True
            effect, groups = lane.head()
            self._perform(Job(effect, groups, groups[0].cause, lane))

    def _perform(self, job: Job) -> None:
        """Has the effect performed: off the thread, or on its next turn, when effects of one kind have gathered."""
        for group in job.groups:
            group.waiting = True
        self._in_flight += 1
        effect = job.effect
        if effect.heavy or self._offload:
            performer = self._performers[type(effect)]
            self._scheduler.submit(
                (lambda: _only(performer([effect]))) if effect.batched else (lambda: performer(effect)),
                lambda result, error: self._done(job, result, error),
            )
            return
        self._queued.append(job)
        if len(self._queued) == 1:
            self._scheduler.post(self.perform_queued)

    @property
    def has_queued(self) -> bool:
        """Whether something waits for the next turn."""
        return bool(self._queued)

    def perform_queued(self) -> None:
        """Performs what was queued for this turn."""
        jobs, self._queued = self._queued, []
        for kind, alike in groupby(jobs, _kind):
            if kind.batched:
                self._do_together(list(alike))
            else:
                for job in alike:
                    self._do(job)

    def _do(self, job: Job) -> None:
        if self._closed:
            return
        try:
            result = self._performers[type(job.effect)](job.effect)
        except Exception as error:  # the actor is told, and decides
            self._done(job, None, error)
        else:
            self._done(job, result, None)

    def _do_together(self, jobs: list[Job]) -> None:
        if self._closed:
            return
        try:
            outcomes = self._performers[_kind(jobs[0])]([job.effect for job in jobs])
        except Exception as error:  # as in `_do`, each of them
            outcomes = [error] * len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._done(job, None, outcome)
            else:
                self._done(job, outcome, None)

    def _done(self, job: Job, result: Any, error: Exception | None) -> None:
        self._in_flight -= 1
        if not self._closed and self._ended(job, result, error):
            for group in job.groups:
                group.waiting = False
                if group.effects:
                    self._advance(group)
        if job.lane is not None:
            self._run_lane(job.lane)
        self._on_end()

    def _ended(self, job: Job, result: Any, error: Exception | None) -> bool:
        """Whether its groups may go on."""
        if isinstance(error, Transient):
            self._retry_later(job, error)
            return False
        if job.lane is not None:
            job.lane.is_busy = False
            if error is not None and len(job.groups) > 1:
                job.lane.alone = len(job.groups)
                return False
            for _ in job.groups:
                job.lane.slots.popleft()
        if error is not None:
            failure = self._own(job.effect, error)
            if job.groups:
                self._fail(job.effect, failure, job.groups[0])
            else:
                self._report(effects.Failed(job.effect, failure), job.cause)
        elif job.effect.reports:
            self._report(effects.Done(job.effect, result), job.cause)
        return error is None

    def _retry_later(self, job: Job, error: Transient) -> None:
        told = {"actor": self._name, "effect": type(job.effect).__name__, "reason": error.reason}
        log.warning("will try again", extra=told)

        def again() -> None:
            if not self._closed:
                self._perform(job)

        self._scheduler.later(job.wait, again)
        job.wait = min(job.wait * 2, LAST_RETRY)

    def _fail(self, effect: Effect, error: FedMQError, group: EffectGroup) -> None:
        if not group.dropped:
            group.dropped = True
            self._report(effects.Failed(effect, error), group.cause)
            for left in group.effects:
                if isinstance(left, Slot):
                    self._run_lane(left.lane)

    def _own(self, effect: Effect, error: Exception) -> FedMQError:
        if isinstance(error, FedMQError):
            return error
        self._report_bug(f"performing {type(effect).__name__}", error)
        return FedMQError(f"internal error in {type(effect).__name__}: {error!r}")


def _kind(job: Job) -> type[effects.Perform]:
    return type(job.effect)


def _only(outcomes: Sequence[Any]) -> Any:
    """The one outcome of a batch of one; raises it if it is an exception."""
    [outcome] = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome

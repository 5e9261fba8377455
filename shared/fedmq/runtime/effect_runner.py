"""Performs the effects that an actor's core returns: group by group, in order, again after an outage."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmq.errors import FedMQError, Fenced, Refused, Transient
from fedmq.runtime import effects
from fedmq.runtime.effect_groups import EffectGroup, OrderedEffect, OrderedQueue
from fedmq.runtime.effects import CoreEvent, Effect
from fedmq.runtime.later import Later
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler

log = logging.getLogger("fedmq")

FIRST_RETRY = 0.1
LAST_RETRY = 5.0
"""Seconds until an effect is tried again: they double from the first to the last."""
MOST_FAILURES = 20
"""Failed attempts of one effect, each after another effect was written to its store, that count as a refusal."""

Performer = Callable[[Any], Any]
"""Performs one effect. Returns its result, or a `Later` that will have it, or raises: Transient where trying again may
help, another FedMQError where the effect is refused."""

_NEED_NO_CONFIRMATION = (effects.Publish, effects.PublishEvent)
"""They start while earlier publishes of their group are not confirmed."""


@dataclass(slots=True, eq=False)
class Execution:
    """A Perform effect under way.

    - `groups`: the groups that wait for it; an independent effect has none.
    - `members`: the ordered effects that it performs, if it is ordered.
    - `wait`: seconds until it is retried after an outage.
    - `failures`: failed attempts before each of which its store wrote others. `others`: how many those were by the last one.
    """

    effect: effects.Perform
    groups: Sequence[EffectGroup]
    cause: str | None
    members: Sequence[OrderedEffect] = ()
    wait: float = FIRST_RETRY
    failures: int = 0
    others: int | None = None


class EffectRunner:
    """Runs the groups of one actor; on the scheduler's thread only.

    - `performers`: the performer of each type of Perform effect. With `offload` they all run off the thread, otherwise
      only those of heavy effects.
    - `built_in`: starts every other effect. It may raise ProtocolError.
    - `report`: receives `Done` or `Failed`, with the very effect that the core returned and the cause of its group.
    - `dead_letter`: receives the deliveries that a refused group was to acknowledge, the reason, and the group's cause. The
      core has received `Failed` before, and may have settled some of them.
    - `report_bug`: receives an exception of a performer that is no FedMQError, and what it was doing.
    - `on_end`: called whenever an effect has ended.
    - `stalls`: notes the effects that wait for their retry.
    """

    def __init__(
        self,
        actor: str,
        scheduler: Scheduler,
        performers: Mapping[type[Effect], Performer],
        *,
        offload: bool,
        built_in: Callable[[Effect, EffectGroup], None],
        report: Callable[[CoreEvent, str | None], None],
        dead_letter: Callable[[Sequence[int], str, str | None], None],
        report_bug: Callable[[str, Exception], None],
        on_end: Callable[[], None],
        stalls: Stalls | None = None,
    ) -> None:
        self._actor = actor
        self._scheduler = scheduler
        self._performers = dict(performers)
        self._offload = offload
        self._built_in = built_in
        self._report = report
        self._dead_letter = dead_letter
        self._report_bug = report_bug
        self._on_end = on_end
        self._stalls = stalls or Stalls(scheduler.wall)
        self._ordered = OrderedQueue()
        self._queued: list[Execution] = []
        self._under_way = 0
        self._written: Counter[str] = Counter()
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no effect is under way. An effect that waits for its retry is under way."""
        return self._under_way == 0

    def close(self) -> None:
        """Starts nothing more, and reports nothing more."""
        self._is_closed = True

    def run(self, answer: Sequence[Effect], cause: str | None) -> None:
        """Starts a group; `cause` is the id of the message that led to it."""
        group = EffectGroup(cause)
        group.effects = self._ordered.add(answer, group)
        group.effects.reverse()
        self._advance(group)

    def confirmation(self, effect: Effect, group: EffectGroup) -> Callable[[FedMQError | None], None]:
        """Makes the group wait for a publish. Returns the callback for its confirmation or refusal."""
        group.unconfirmed += 1
        self._under_way += 1

        def confirmed(error: FedMQError | None) -> None:
            group.unconfirmed -= 1
            self._under_way -= 1
            if error is not None:
                self._drop(group, effect, error)
            if not group.unconfirmed:
                self._advance(group)
            self._on_end()

        return confirmed

    def _advance(self, group: EffectGroup) -> None:
        """Starts effects of the group until one has to be waited for."""
        if group.is_waiting:
            return
        while group.effects and not self._is_closed:
            effect = group.effects[-1]
            if group.unconfirmed and not isinstance(effect, _NEED_NO_CONFIRMATION):
                return
            group.effects.pop()
            if isinstance(effect, effects.Apart):
                group.is_dropped = False
            elif isinstance(effect, OrderedEffect):
                effect.is_due = True
                group.is_waiting = not effect.effect.independent
                self._start_ordered()
            elif isinstance(effect, effects.Perform):
                self._start(Execution(effect, () if effect.independent else (group,), group.cause))
            else:
                try:
                    self._built_in(effect, group)
                except Exception as error:  # one group's bug must not keep others waiting
                    self._drop(group, effect, self._failure(effect, error))
            if group.is_waiting:
                return

    def _start_ordered(self) -> None:
        """Starts the next ordered effect, if its turn has come."""
        if not self._is_closed and (taken := self._ordered.take()) is not None:
            effect, members = taken
            groups = [member.group for member in members if not member.effect.independent]
            self._start(Execution(effect, groups, members[0].group.cause, members))

    def _start(self, execution: Execution) -> None:
        for group in execution.groups:
            group.is_waiting = True
        self._under_way += 1
        self._perform(execution)

    def _perform(self, execution: Execution) -> None:
        """Has the effect performed: off the thread, or on the scheduler's next turn."""
        effect = execution.effect
        if effect.heavy or self._offload:
            performer = self._performers[type(effect)]
            self._scheduler.submit(
                lambda: performer(effect), lambda result, error: self._performed(execution, result, error)
            )
            return
        self._queued.append(execution)
        if len(self._queued) == 1:
            self._scheduler.post(self.perform_queued)

    @property
    def has_queued(self) -> bool:
        """Whether effects wait for the scheduler's next turn."""
        return bool(self._queued)

    def perform_queued(self) -> None:
        """Performs the effects that wait for the scheduler's next turn."""
        queued, self._queued = self._queued, []
        for execution in queued:
            if self._is_closed:
                return
            effect = execution.effect
            try:
                result = self._performers[type(effect)](effect)
            except Exception as error:  # reported to the core, which decides
                self._end(execution, None, error)
            else:
                self._performed(execution, result, None)

    def _performed(self, execution: Execution, result: Any, error: Exception | None) -> None:
        if isinstance(result, Later):
            result.on_complete(lambda result, error: self._end(execution, result, error))
        else:
            self._end(execution, result, error)

    def _end(self, execution: Execution, result: Any, error: Exception | None) -> None:
        if isinstance(error, Transient) and not self._is_closed:
            if not self._is_refused(execution):
                self._retry_later(execution, error)
                return
            error = Refused(f"{error.reason}, in {MOST_FAILURES} attempts between which others succeeded")
        elif error is None:
            self._written[execution.effect.store] += 1
        self._stalls.end(execution)
        self._under_way -= 1
        if not self._is_closed and self._report_outcome(execution, result, error):
            for group in execution.groups:
                group.is_waiting = False
                if group.effects:
                    self._advance(group)
        if execution.members:
            self._start_ordered()
        self._on_end()

    def _report_outcome(self, execution: Execution, result: Any, error: Exception | None) -> bool:
        """Reports the outcome. Returns whether the groups of the effect may advance: unless its parts are yet to come."""
        effect, members = execution.effect, execution.members
        if error is not None and len(members) > 1:
            self._ordered.put_back(members)
            return False
        if members:
            self._ordered.end()
        if error is not None:
            failure = self._failure(effect, error)
            if execution.groups and (not effect.is_optional or isinstance(error, Fenced)):
                self._drop(execution.groups[0], effect, failure)
            else:
                self._report(effects.Failed(effect, failure), execution.cause)
        elif effect.reports:
            self._report(effects.Done(effect, result), execution.cause)
        return True

    def _is_refused(self, execution: Execution) -> bool:
        """Returns whether a store that works has failed to write this effect so often that it refuses it for good.

        An outage, in which the store writes nothing, does not count. Without a limit, one record that a store never takes
        would block all ordered effects behind it.
        """
        store = execution.effect.store
        written = self._written[store]
        if store and execution.others is not None and written > execution.others:
            execution.failures += 1
        execution.others = written
        return execution.failures >= MOST_FAILURES

    def _retry_later(self, execution: Execution, error: Transient) -> None:
        extra = {"actor": self._actor, "effect": type(execution.effect).__name__, "reason": error.reason}
        log.warning("will try again", extra=extra)
        self._stalls.retry(execution, type(execution.effect).__name__, error)

        def retry() -> None:
            if not self._is_closed:
                self._perform(execution)

        self._scheduler.later(execution.wait, retry)
        execution.wait = min(execution.wait * 2, LAST_RETRY)

    def _drop(self, group: EffectGroup, effect: Effect, error: FedMQError) -> None:
        """Drops the rest of the group's part, as `effect` was refused, and settles the messages that it was to acknowledge.

        A fenced process performs no part of the group any more. Its core gives the messages back to the one that decides.
        """
        if not group.is_dropped:
            is_fenced = isinstance(error, Fenced)
            dropped = group.drop(only_part=not is_fenced)
            self._report(effects.Failed(effect, error), group.cause)
            tags = [tag for left in dropped if isinstance(left, effects.Ack) for tag in left.tags]
            if tags and not is_fenced:
                self._dead_letter(tags, f"{type(effect).__name__} was refused: {error.reason}", group.cause)
            self._start_ordered()

    def _failure(self, effect: Effect, error: Exception) -> FedMQError:
        if isinstance(error, FedMQError):
            return error
        self._report_bug(f"performing {type(effect).__name__}", error)
        return FedMQError(f"internal error in {type(effect).__name__}: {error!r}")

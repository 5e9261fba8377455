"""An effect runner with performers, and a record of what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fedmq.errors import FedMQError
from fedmq.runtime.effect_groups import EffectGroup
from fedmq.runtime.effect_runner import EffectRunner
from fedmq.runtime.effects import Ack, CoreEvent, Done, Effect, Failed, Perform, Publish
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import VirtualScheduler


class Bench:
    """Runs effects. `calls`: the effects that were performed, retries too. `events`: what was reported to the core."""

    def __init__(self, performers: Mapping[type[Perform], Callable[[Any], Any]], *, offload: bool) -> None:
        self.scheduler = VirtualScheduler()
        self.stalls = Stalls(self.scheduler.wall)
        self.calls: list[Effect] = []
        self.events: list[Done | Failed] = []
        self.acked: list[int] = []
        self.confirmations: list[Callable[[FedMQError | None], None]] = []
        self.dead_letters: dict[int, str] = {}
        self.bugs: list[Exception] = []
        self.runner = EffectRunner(
            "bench",
            self.scheduler,
            {kind: partial(self._perform, performer) for kind, performer in performers.items()},
            offload=offload,
            built_in=self._built_in,
            report=self._report,
            dead_letter=lambda tags, reason, _: self.dead_letters.update(dict.fromkeys(tags, reason)),
            report_bug=lambda doing, error: self.bugs.append(error),
            on_end=lambda: None,
            stalls=self.stalls,
        )

    def start(self, *groups: Sequence[Effect]) -> None:
        for group in groups:
            self.runner.run(group, None)

    def run(self, *groups: Sequence[Effect]) -> None:
        self.start(*groups)
        self.scheduler.run()

    @property
    def done(self) -> list[Effect]:
        return [event.effect for event in self.events if isinstance(event, Done)]

    @property
    def failed(self) -> list[Effect]:
        return [event.effect for event in self.events if isinstance(event, Failed)]

    def _perform(self, performer: Callable[[Any], Any], effect: Effect) -> Any:
        self.calls.append(effect)
        return performer(effect)

    def _built_in(self, effect: Effect, group: EffectGroup) -> None:
        if isinstance(effect, Publish):
            self.confirmations.append(self.runner.confirmation(effect, group))
            return
        assert isinstance(effect, Ack)
        self.acked += effect.tags

    def _report(self, event: CoreEvent, _: str | None) -> None:
        assert isinstance(event, Done | Failed)
        self.events.append(event)

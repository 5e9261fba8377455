"""A core under test: events in, effects out, and the invariants of every core.

    driver = Driver(CombinerCore("k1"))
    effects = driver.receive(plan, sender="reducer")
    opening = one(effects, Open)
    effects = driver.done(opening, Opened(("c1",), ()))

`check` holds for each core whatever happened: each delivery is settled at most once, and what is not settled waits for an
answer or a timer, so that nothing waits for ever. The fixtures of the cores call it at teardown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, TypeVar

from fedmq.errors import FedMQError, Fenced
from fedmq.runtime.effects import (
    Ack,
    Apart,
    Broken,
    CancelTimer,
    Core,
    CoreEvent,
    Done,
    Effect,
    Failed,
    Fired,
    Now,
    Perform,
    Publish,
    PublishEvent,
    Received,
    Reconnected,
    Reject,
    Resubscribe,
    Started,
    StartTimer,
)
from fedmq_schemas.messages import BlobRef, Body, Envelope

E = TypeVar("E", bound=Effect)
B = TypeVar("B", bound=Body)


def one(effects: Sequence[Effect], kind: type[E]) -> E:
    """Returns the only effect of this kind; fails if there are none or several."""
    found = all_of(effects, kind)
    assert len(found) == 1, f"{len(found)} effects of {kind.__name__} in {effects}"
    return found[0]


def all_of(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def bodies(effects: Sequence[Effect], kind: type[B]) -> list[B]:
    """Returns the bodies of this kind that are published, in order."""
    return [effect.body for effect in effects if isinstance(effect, Publish) and isinstance(effect.body, kind)]


def events(effects: Sequence[Effect], name: str) -> list[PublishEvent]:
    """Returns the published events of this name, in order."""
    return [effect for effect in effects if isinstance(effect, PublishEvent) and effect.name == name]


def blob(key: str, size: int = 1) -> BlobRef:
    return BlobRef(key=key, size=size, sha256="0" * 64)


def received(
    body: Body, sender: str, *, tag: int = 1, message_id: str = "", cause: str | None = None, sent_at: float = 0.0
) -> Received:
    """Returns the event of a message that is delivered under `tag`, in an envelope of the alliance "a"."""
    envelope = Envelope(
        kind=body.kind, id=message_id or f"m{tag}", cause=cause, alliance="a", sender=sender, sent_at=sent_at
    )
    return Received(body, envelope, tag)


class Driver:
    """Hands events to a core at a time that the test sets (`at`, in seconds), and keeps account of deliveries, timers and
    unanswered effects. `tag` is that of the newest delivery. `held`: kinds of effects that are under way until `done` or
    `failed`, although they don't report; all others that don't are done at once. `dead_letters`: messages of refused groups.
    `after_bug`: the effects that answer `Broken`."""

    def __init__(self, core: Core, *, wall: float = 1_000.0) -> None:
        self.core = core
        self.at = 0.0
        self.tag = 0
        self.timers: dict[str, float] = {}
        self.unanswered: list[Perform] = []
        self.held: tuple[type[Perform], ...] = ()
        self.dead_letters: list[Body] = []
        self.after_bug: list[Effect] = []
        self._wall = wall
        self._unsettled: dict[int, Body] = {}
        self._following: dict[int, Sequence[Effect]] = {}

    # -- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: CoreEvent) -> list[Effect]:
        now = Now(self.at, self._wall + self.at)
        try:
            effects = list(self.core.handle(event, now))
        except Exception as error:  # as the runtime does
            if isinstance(event, Received):
                self._settle(event.tag)
            self.after_bug = list(self.core.handle(Broken(event, FedMQError(f"internal error: {error!r}")), now))
            self._note(self.after_bug)
            raise
        self._note(effects)
        return effects

    def start(self) -> list[Effect]:
        return self.handle(Started())

    def reconnect(self) -> list[Effect]:
        """The link was lost and is back: unsettled deliveries are void."""
        self._unsettled.clear()
        self._following.clear()
        return self.handle(Reconnected())

    def receive(self, body: Body, sender: str, *, message_id: str = "", sent_at: float = 0.0) -> list[Effect]:
        """Delivers a message under a new tag. A message that is delivered again is another delivery."""
        self.tag += 1
        self._unsettled[self.tag] = body
        return self.handle(received(body, sender, tag=self.tag, message_id=message_id, sent_at=sent_at))

    def done(self, effect: Effect, result: Any = None) -> list[Effect]:
        """An effect is done; the later ones of its group take place too."""
        self._note(self._answered(effect))
        return self.handle(Done(effect, result))

    def failed(self, effect: Effect, error: FedMQError) -> list[Effect]:
        """An effect is refused for good; the rest of its part of the group is dropped, and its messages are dead letters."""
        rest = self._answered(effect)
        is_over = isinstance(error, Fenced)
        dropped = list(takewhile(lambda each: is_over or not isinstance(each, Apart), rest))
        if isinstance(effect, Perform) and effect.is_optional and not is_over:
            dropped.clear()
        effects = self.handle(Failed(effect, error))
        tags = [tag for each in all_of(dropped, Ack) for tag in each.tags]
        for tag in tags if not is_over else ():
            if tag in self._unsettled:
                self.dead_letters.append(self._unsettled.pop(tag))
        self._note(rest[len(dropped) :])
        return effects

    def fire(self, key: str) -> list[Effect]:
        """Lets the timer `key` run out, at its time; it must be running."""
        self.at = max(self.at, self.timers.pop(key))
        return self.handle(Fired(key))

    def step_wall(self, seconds: float) -> None:
        """Sets the wall clock ahead, or back."""
        self._wall += seconds

    # -- invariants -------------------------------------------------------------------------------------------------

    @property
    def unsettled(self) -> list[Body]:
        """Bodies of the messages that are neither acknowledged nor rejected."""
        return list(self._unsettled.values())

    def check(self) -> None:
        """Fails if a message waits without an answer that is to come or a deadline. The timers of the lease, of presence
        and of hellos always run, so they prove nothing."""
        if self._unsettled:
            deadlines = [key for key in self.timers if key.partition(":")[0] not in ("lease", "presence", "hello")]
            assert self.unanswered or deadlines, f"{self.unsettled} wait for nothing"

    def _answered(self, effect: Effect) -> Sequence[Effect]:
        """Returns the effects that follow in the group."""
        self.unanswered = [each for each in self.unanswered if each is not effect]
        return self._following.pop(id(effect), ())

    def _note(self, effects: Sequence[Effect]) -> None:
        """Keeps account of a group up to the first effect whose answer the later ones wait for."""
        for number, effect in enumerate(effects, 1):
            match effect:
                case Ack(tags):
                    for tag in tags:
                        self._settle(tag)
                case Reject(tag):
                    self._settle(tag)
                case Resubscribe():
                    self._unsettled.clear()
                    self._following.clear()
                case StartTimer(key, seconds):
                    self.timers[key] = self.at + seconds
                case CancelTimer(key):
                    self.timers.pop(key, None)
                case Perform() if effect.reports or isinstance(effect, self.held):
                    self.unanswered.append(effect)
                    if not effect.independent:
                        self._following[id(effect)] = effects[number:]
                        return

    def _settle(self, tag: int) -> None:
        assert tag in self._unsettled, f"delivery {tag} is settled, and was before or is void"
        del self._unsettled[tag]

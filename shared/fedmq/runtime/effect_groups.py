"""The effects that an actor has yet to perform: group by group, and the ordered ones across groups. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fedmq.runtime.effects import Apart, Effect, Perform

MAX_JOINED = 200
"""Ordered effects that one write replaces."""


@dataclass(slots=True, eq=False)
class EffectGroup:
    """The effects of one `handle` call that have not been started. The next one is the last of `effects`.

    - `cause`: the id of the message that led to the group.
    - `unconfirmed`: how many of its publishes the broker has not confirmed.
    - `is_waiting`: an effect is under way that the next one has to wait for.
    - `is_dropped`: an effect was refused, so the rest of its part was dropped. What stands apart from it follows.
    """

    cause: str | None
    effects: list[Effect | OrderedEffect] = field(default_factory=list)
    unconfirmed: int = 0
    is_waiting: bool = False
    is_dropped: bool = False

    def drop(self, *, only_part: bool) -> list[Effect | OrderedEffect]:
        """Returns the effects that are not performed any more: the rest, or the rest up to the next `Apart`."""
        self.is_dropped = True
        dropped: list[Effect | OrderedEffect] = []
        while self.effects and not (only_part and isinstance(self.effects[-1], Apart)):
            dropped.append(effect := self.effects.pop())
            if isinstance(effect, OrderedEffect):
                effect.is_dropped = True
        return dropped


@dataclass(slots=True, eq=False)
class OrderedEffect:
    """An ordered effect, at its place since the core returned it. It `is_due` once its group has reached it."""

    effect: Perform
    group: EffectGroup
    is_due: bool = False
    is_dropped: bool = False


class Taken(NamedTuple):
    """The effect to perform next; it is equivalent to its `members`, in their order."""

    effect: Perform
    members: Sequence[OrderedEffect]


class OrderedQueue:
    """The ordered effects of one actor, in the order in which its core returned them.

    At most one is performed at a time: after `take`, nothing is taken until `put_back` or `end` is called.
    """

    def __init__(self) -> None:
        self._effects: deque[OrderedEffect] = deque()
        self._is_busy = False
        self._take_alone = 0

    def add(self, effects: Iterable[Effect], group: EffectGroup) -> list[Effect | OrderedEffect]:
        """Returns the effects of a new group, each ordered one with its place in the order."""
        return [self._place(effect, group) if effect.ordered else effect for effect in effects]

    def _place(self, effect: Effect, group: EffectGroup) -> OrderedEffect:
        assert isinstance(effect, Perform)
        ordered = OrderedEffect(effect, group)
        self._effects.append(ordered)
        return ordered

    def take(self) -> Taken | None:
        """Returns the next effect with those that can be joined to it; None if it is not due, or one is performed."""
        effects = self._effects
        while effects and effects[0].is_dropped:
            effects.popleft()
        if self._is_busy or not effects or not effects[0].is_due:
            return None
        self._is_busy = True
        members = [effects.popleft()]
        effect = members[0].effect
        if self._take_alone:
            self._take_alone -= 1
            return Taken(effect, members)
        while len(members) < MAX_JOINED and (joined := self._joined(effect)) is not None:
            effect = joined
            members.append(effects.popleft())
        return Taken(effect, members)

    def _joined(self, effect: Perform) -> Perform | None:
        """Returns the effect joined with the next one. Returns None if there is none that is due and can be joined."""
        following = self._effects[0] if self._effects else None
        return effect.joined(following.effect) if following is not None and following.is_due else None

    def end(self) -> None:
        """Notes that the taken effect was performed or refused."""
        self._is_busy = False

    def put_back(self, members: Sequence[OrderedEffect]) -> None:
        """Returns members that were refused together, to be taken one by one: only those fail that are refused alone."""
        self._effects.extendleft(reversed(members))
        self._take_alone = len(members)
        self._is_busy = False

"""Fair turns between the senders of one inbox: a sender that publishes too much delays and loses only its own messages.

RabbitMQ limits no account's rate. Without turns, one account's flood stands in the inbox before everybody's messages, and
each of its messages costs the core, the records and the event stream their work.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fedmq.brokers.base import Delivery
from fedmq.scheduler import Scheduler, Timer

RATE = 20.0
"""Messages of one sender that are handled a second. A client at work sends about two."""
BURST = 100.0
"""Messages of one sender that are handled at once after a silence."""
SHARE = 4
"""The lines of all senders hold at most this part of the prefetch, so that other deliveries have room."""
MOST_KNOWN = 4096
"""Senders whose allowance is remembered."""
REPORT_SECONDS = 10.0
PRIORITY = "a message may have no priority: with one, RabbitMQ 4 delivers it before those of others"
ROUNDING = 1e-6
"""Of an allowance. Else the rest that rounding leaves would be awaited for less time than a clock can show."""

Item = TypeVar("Item")


@dataclass(slots=True)
class Line(Generic[Item]):
    """A sender's messages that wait, and its allowance as it was at the time `at`."""

    allowance: float
    at: float
    items: deque[Item] = field(default_factory=deque)


class Turns(Generic[Item]):
    """A line and an allowance of messages for each sender. Pure.

    An allowance grows by `rate` a second up to `burst`. Senders with messages take turns, as long as their allowances last.
    All lines together hold `most_waiting` messages. Beyond that, the newest message of the longest line is turned away.
    """

    def __init__(self, *, rate: float, burst: float, most_waiting: int, most_known: int = MOST_KNOWN) -> None:
        self._rate = rate
        self._burst = burst
        self._most_waiting = most_waiting
        self._most_known = most_known
        self._lines: OrderedDict[str, Line[Item]] = OrderedDict()
        """All known senders. The one that has been silent for longest is first."""
        self._ready: OrderedDict[str, None] = OrderedDict()
        """The senders with messages. Whose turn is next is first."""
        self._waiting = 0

    def put(self, sender: str, item: Item, now: float) -> tuple[str, Item] | None:
        """Adds a message to its sender's line. Returns the message that is turned away, with its sender, if there is one."""
        line = self._lines.get(sender)
        if line is None:
            self._forget_silent()
            line = self._lines[sender] = Line(self._burst, now)
        self._lines.move_to_end(sender)
        self._ready.setdefault(sender)
        line.items.append(item)
        self._waiting += 1
        if self._waiting <= self._most_waiting:
            return None
        longest = max(self._ready, key=lambda name: len(self._lines[name].items))
        return longest, self._remove(longest, self._lines[longest].items.pop)

    def take(self, now: float) -> tuple[Item | None, float | None]:
        """Returns the next message; or None, and the seconds until there is one (None: when one is put)."""
        soonest: float | None = None
        for sender in self._ready:
            line = self._lines[sender]
            line.allowance = min(self._burst, line.allowance + (now - line.at) * self._rate)
            line.at = now
            if line.allowance > 1 - ROUNDING:
                line.allowance -= 1
                self._ready.move_to_end(sender)
                return self._remove(sender, line.items.popleft), None
            seconds = (1 - line.allowance) / self._rate
            soonest = seconds if soonest is None else min(soonest, seconds)
        return None, soonest

    def _remove(self, sender: str, pop: Callable[[], Item]) -> Item:
        item = pop()
        self._waiting -= 1
        if not self._lines[sender].items:
            del self._ready[sender]
        return item

    def clear(self) -> None:
        """Empties all lines. Allowances stay."""
        for sender in self._ready:
            self._lines[sender].items.clear()
        self._ready.clear()
        self._waiting = 0

    def _forget_silent(self) -> None:
        if len(self._lines) >= self._most_known:
            silent = next((sender for sender in self._lines if sender not in self._ready), None)
            if silent is not None:
                del self._lines[silent]


class FairTurns:
    """Passes on the deliveries of one inbox, in turns of their senders. For an inbox with this `prefetch`.

    - `servers`: the accounts of the alliance's servers, whose messages pass at once. None: they are not known, and all
      pass, as in a process that holds the whole alliance.
    - `receive`: handles a delivery. `refuse`: rejects one with a reason. `drop`: acknowledges one that is not handled.
    - `report`: receives a sender, and a sentence with the number of its messages that were turned away.

    A message with a priority is refused when it is its turn, so that nobody gains anything by one.

    Of a sender's messages that are turned away in 10 s, one is refused. The others are dropped, and reported as one number:
    a flood must not become a flood of dead letters.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        servers: frozenset[str] | None,
        prefetch: int,
        receive: Callable[[Delivery], None],
        refuse: Callable[[Delivery, str], None],
        drop: Callable[[Delivery], None],
        report: Callable[[str, str], None],
    ) -> None:
        self._scheduler = scheduler
        self._servers = servers
        self._receive = receive
        self._refuse = refuse
        self._drop = drop
        self._report = report
        self._turns: Turns[Delivery] = Turns(rate=RATE, burst=BURST, most_waiting=max(1, prefetch // SHARE))
        self._next: Timer | None = None
        self._turned_away: dict[str, int] = {}

    def put(self, delivery: Delivery) -> None:
        """Passes the delivery on: now, when it is its sender's turn, or never."""
        if self._servers is None or delivery.user in self._servers:
            self._receive(delivery)
            return
        away = self._turns.put(_sender(delivery), delivery, self._scheduler.now())
        if away is not None:
            self._turn_away(*away)
        self._take()

    def clear(self) -> None:
        """Forgets the deliveries that wait, which the broker delivers again."""
        self._turns.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _take(self) -> None:
        while True:
            delivery, seconds = self._turns.take(self._scheduler.now())
            if delivery is None:
                break
            if delivery.priority:
                self._refuse(delivery, PRIORITY)
            else:
                self._receive(delivery)
        if seconds is not None and self._next is None:
            self._next = self._scheduler.later(seconds, self._take_next)

    def _take_next(self) -> None:
        self._next = None
        self._take()

    def _turn_away(self, sender: str, delivery: Delivery) -> None:
        count = self._turned_away.get(sender, 0)
        self._turned_away[sender] = count + 1
        if count:
            self._drop(delivery)
        else:
            self._scheduler.later(REPORT_SECONDS, lambda: self._report_away(sender))
            self._refuse(delivery, f"{sender} publishes too much: publish at most {RATE:g} messages a second")

    def _report_away(self, sender: str) -> None:
        count = self._turned_away.pop(sender)
        if count > 1:
            self._report(sender, f"{count} messages of {sender} were turned away in {REPORT_SECONDS:g} s")


def _sender(delivery: Delivery) -> str:
    """Returns whose allowance a delivery costs: its account's, which the broker verifies.

    Without an account, it is the last word of the address, which an account may not choose either. The sender that the
    message states could be anybody's name, or a thousand.
    """
    return delivery.user or delivery.routing_key.rpartition(".")[2]

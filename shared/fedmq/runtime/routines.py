"""Routines: decisions that take several steps, written from top to bottom. Pure.

A routine is an `async def` without an event loop, so no `asyncio` is involved: a core resumes it with the event that it
waits for. It emits effects with `Context.emit`, and waits with `ask` for the answer to one effect, or with `first` for the
first of several events. All effects emitted within one `handle` of the core form one group (see `fedmq.runtime.effects`).

Nothing of a routine outlives its process. What other code must see is data that the routine keeps up to date; its local
variables are its own. To go on after a crash, a lost lease or a bug, a core reads its records and starts a new routine.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar, overload

from fedmq.runtime.effects import Done, Effect, Failed, Fired, Now, Question

A = TypeVar("A")
B = TypeVar("B")
Answer = TypeVar("Answer")

Course = Coroutine[object, Any, object]
"""What an `async def` returns when it is called: the steps that a routine takes."""


class Awaited(NamedTuple):
    """What a routine waits for: the answer to `question`, or one of the types `events` or the timer `until`."""

    question: Effect | None
    events: tuple[type, ...] = ()
    until: str = ""

    def accepts(self, event: object) -> bool:
        """Returns whether this event, which is no answer, ends the wait."""
        return self.until == event.key if isinstance(event, Fired) else isinstance(event, self.events)

    def __str__(self) -> str:
        if self.question is not None:
            return f"the answer to {type(self.question).__name__}"
        names = [event.__name__ for event in self.events] + ([f"the timer {self.until!r}"] if self.until else [])
        return " or ".join(names)


@types.coroutine
def _suspend(wait: Awaited) -> Generator[Awaited, Any, Any]:
    return (yield wait)


class Context:
    """What the routines and reactions of one core share: the time, their effects, and which routine waits for which answer.

    - `now`: the time of the event that the core handles.
    - `is_broken`: a course has ended by an exception, so its work is not done. The core starts over and resets this.
    """

    def __init__(self) -> None:
        self.now = Now(0.0, 0.0)
        self.is_broken = False
        self._effects: list[Effect] = []
        self._asked: dict[int, Routine] = {}

    def emit(self, *effects: Effect) -> None:
        """Appends effects to the group of the event that the core handles."""
        self._effects += effects

    def take_effects(self) -> list[Effect]:
        """Returns the effects emitted since the last call, in their order."""
        taken, self._effects = self._effects, []
        return taken

    async def ask(self, question: Question[Answer], *then: Effect) -> Answer:
        """Emits `question`, then `then`, and returns the answer. Raises the error with which it was refused."""
        self._effects += (question, *then)
        answer: Answer = await _suspend(Awaited(question))
        return answer

    @overload
    async def first(self, a: type[A], /) -> A: ...
    @overload
    async def first(self, a: type[A], b: type[B], /) -> A | B: ...
    @overload
    async def first(self, a: type[A], /, *, until: str) -> A | Fired: ...
    @overload
    async def first(self, a: type[A], b: type[B], /, *, until: str) -> A | B | Fired: ...
    async def first(self, *events: type[Any], until: str = "") -> Any:
        """Returns the first event of one of these types, or `Fired` if the timer `until` runs out before.

        Events of other types that arrive meanwhile are not kept.
        """
        return await _suspend(Awaited(None, events, until))

    def answer(self, event: Done | Failed) -> bool:
        """Resumes the routine that waits for this very effect, not an equal one, and returns whether there is one."""
        routine = self._asked.pop(id(event.effect), None)
        if routine is None:
            return False
        if isinstance(event, Failed):
            routine.interrupt(event.error)
        else:
            routine.resume(event.result)
        return True

    def expect(self, routine: Routine, question: Effect) -> None:
        """Notes that `routine` waits for the answer to `question`, which it keeps alive."""
        self._asked[id(question)] = routine

    def forget(self, question: Effect) -> None:
        """Notes that no routine waits for the answer to `question` any more."""
        self._asked.pop(id(question), None)


class Routine:
    """One `async def` under way, which these methods run to its next wait or its end. They raise its exceptions."""

    __slots__ = ("_context", "_course", "wait")

    def __init__(self, context: Context, course: Course) -> None:
        self._context = context
        self._course = course
        self.wait: Awaited | None = None

    def start(self) -> None:
        """Runs the course to its first wait."""
        self._advance(self._course.send, None)

    def offer(self, event: object) -> bool:
        """Resumes the course if it waits for this event, and returns whether it did."""
        if self.wait is None or self.wait.question is not None or not self.wait.accepts(event):
            return False
        self._advance(self._course.send, event)
        return True

    def resume(self, answer: object) -> None:
        """Continues after the wait with this answer."""
        self._advance(self._course.send, answer)

    def interrupt(self, error: Exception) -> None:
        """Raises the error where the course waits."""
        self._advance(self._course.throw, error)

    def close(self) -> None:
        """Ends the course where it waits. It emits nothing more. Idempotent."""
        self._stop_waiting()
        self._course.close()

    @property
    def is_over(self) -> bool:
        """Whether the course has ended."""
        return self.wait is None

    def where(self) -> str:
        """Returns where the course stands, outermost function first, and what it waits for. From any thread."""
        calls: list[str] = []
        course: object = self._course
        while isinstance(course, types.CoroutineType) and (frame := course.cr_frame) is not None:
            code = frame.f_code
            calls.append(f"{code.co_name} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})")
            course = course.cr_await
        return f"{' > '.join(calls[:-1])} waits for {self.wait}"

    def _advance(self, step: Callable[[Any], object], value: object) -> None:
        self._stop_waiting()
        try:
            wait = step(value)
        except StopIteration:
            return
        except Exception:
            self._context.is_broken = True
            raise
        assert isinstance(wait, Awaited), "a routine awaits nothing but its context"
        self.wait = wait
        if wait.question is not None:
            self._context.expect(self, wait.question)

    def _stop_waiting(self) -> None:
        if self.wait is not None and self.wait.question is not None:
            self._context.forget(self.wait.question)
        self.wait = None

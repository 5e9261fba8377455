"""Routines: how they are resumed and ended, and what remains of them."""

from __future__ import annotations

import pytest

from fedmq.errors import FedMQError, NotFound
from fedmq.runtime.effects import CancelTimer, Done, Failed, Fired, Question, StartTimer
from fedmq.runtime.routines import Context, Routine
from fedmq.value import value


@value
class Add(Question[int]):
    a: int
    b: int


class Arrived:
    pass


class Ended(Exception):
    pass


def asked(context: Context) -> Add:
    """The one question among the effects emitted since the last look."""
    [question] = [effect for effect in context.take_effects() if isinstance(effect, Add)]
    return question


async def sum_of(context: Context, results: list[int]) -> None:
    first = await context.ask(Add(1, 2))
    results.append(await context.ask(Add(first, 10)))


def test_a_question_is_emitted_and_its_answer_is_returned_on_the_next_line() -> None:
    context, results = Context(), list[int]()
    routine = Routine(context, sum_of(context, results))
    routine.start()
    question = asked(context)
    assert question == Add(1, 2)
    assert context.answer(Done(question, 3))
    question = asked(context)
    assert question == Add(3, 10)
    assert context.answer(Done(question, 13))
    assert (results, routine.is_over) == ([13], True)


def test_what_follows_a_question_is_in_its_group() -> None:
    context = Context()

    async def course() -> None:
        context.emit(StartTimer("a", 1.0))
        await context.ask(Add(1, 2), CancelTimer("a"))

    Routine(context, course()).start()
    assert context.take_effects() == [StartTimer("a", 1.0), Add(1, 2), CancelTimer("a")]
    assert context.take_effects() == []


def test_an_equal_question_of_another_does_not_count_as_the_answer() -> None:
    context, results = Context(), list[int]()
    routine = Routine(context, sum_of(context, results))
    routine.start()
    question = asked(context)
    assert not context.answer(Done(Add(1, 2), 99))
    assert context.answer(Done(question, 3))


def test_an_answer_is_given_once() -> None:
    context = Context()
    Routine(context, sum_of(context, [])).start()
    question = asked(context)
    assert context.answer(Done(question, 3))
    assert not context.answer(Done(question, 3))


def test_a_refused_question_raises_on_its_line() -> None:
    context, caught = Context(), list[FedMQError]()

    async def course() -> None:
        try:
            await context.ask(Add(1, 2))
        except FedMQError as error:
            caught.append(error)

    Routine(context, course()).start()
    error = NotFound("there is no such number")
    assert context.answer(Failed(asked(context), error))
    assert caught == [error]


def test_the_first_of_several_events_ends_the_wait_and_the_others_are_not_kept() -> None:
    context, seen = Context(), list[object]()

    async def course() -> None:
        seen.append(await context.first(Arrived, until="deadline"))
        seen.append(await context.first(Arrived, until="deadline"))

    routine = Routine(context, course())
    routine.start()
    arrived = Arrived()
    assert not routine.offer(Fired("another timer"))
    assert not routine.offer("another event")
    assert routine.offer(arrived)
    assert routine.offer(Fired("deadline"))
    assert seen == [arrived, Fired("deadline")]
    assert not routine.offer(arrived)


def test_a_routine_that_waits_for_an_answer_takes_no_event() -> None:
    context = Context()
    routine = Routine(context, sum_of(context, []))
    routine.start()
    assert not routine.offer(Arrived())
    assert not routine.offer(Done(asked(context), 3))


def test_an_interrupt_is_raised_at_the_wait_and_the_answer_then_reaches_nobody() -> None:
    context, ended = Context(), list[str]()

    async def course() -> None:
        try:
            await context.ask(Add(1, 2))
        except Ended as end:
            ended.append(str(end))

    routine = Routine(context, course())
    routine.start()
    question = asked(context)
    routine.interrupt(Ended("stopped"))
    assert (ended, routine.is_over) == (["stopped"], True)
    assert not context.answer(Done(question, 3))


def test_an_exception_that_is_not_caught_is_raised_to_the_caller_and_ends_the_routine() -> None:
    context = Context()

    async def course() -> None:
        await context.ask(Add(1, 2))
        raise ZeroDivisionError

    routine = Routine(context, course())
    routine.start()
    with pytest.raises(ZeroDivisionError):
        context.answer(Done(asked(context), 3))
    assert routine.is_over


def test_after_close_no_answer_arrives_and_close_may_be_called_again() -> None:
    context, results = Context(), list[int]()
    routine = Routine(context, sum_of(context, results))
    routine.start()
    question = asked(context)
    routine.close()
    routine.close()
    assert not context.answer(Done(question, 3))
    assert (results, routine.is_over) == ([], True)


def test_a_routine_may_start_another_one_which_waits_beside_it() -> None:
    context, results = Context(), list[int]()

    async def parent() -> None:
        Routine(context, sum_of(context, results)).start()
        await context.ask(Add(5, 5))

    Routine(context, parent()).start()
    first, second = [effect for effect in context.take_effects() if isinstance(effect, Add)]
    assert (first, second) == (Add(1, 2), Add(5, 5))
    assert context.answer(Done(second, 10))
    assert context.answer(Done(first, 3))


def test_a_routine_that_is_resumed_by_itself_is_an_error_that_shows() -> None:
    context, routines = Context(), list[Routine]()

    async def course() -> None:
        await context.first(Arrived)
        routines[0].resume(None)

    routines.append(Routine(context, course()))
    routines[0].start()
    with pytest.raises(ValueError, match="already executing"):
        routines[0].offer(Arrived())


def test_a_routine_reports_where_it_waits() -> None:
    context = Context()

    async def inner() -> None:
        await context.first(Arrived, until="deadline")

    async def outer() -> None:
        await inner()
        await context.ask(Add(1, 2))

    routine = Routine(context, outer())
    routine.start()
    calls, _, wait = routine.where().partition(" waits for ")
    assert [call.partition(" (")[0] for call in calls.split(" > ")] == ["outer", "inner"]
    assert calls.count("(test_routines.py:") == 2
    assert wait == "Arrived or the timer 'deadline'"
    routine.offer(Fired("deadline"))
    assert routine.where().endswith("waits for the answer to Add")

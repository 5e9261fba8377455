"""Views of a running session: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedmq.visible import visible
from fedmq_cli.awaiting import Awaiting, awaited_text
from fedmq_cli.failures import ATTEMPT_ENDS, Failures
from fedmq_cli.interruption import calling
from fedmq_cli.output import named, say
from fedmq_cli.progress import TROUBLE, Round, SessionProgress, own_text, reason_text, scores_text
from fedmq_schemas.messages import Event
from fedmq_schemas.records import ENDED

if TYPE_CHECKING:
    from fedmq_client.pool.inline import RunningJob
    from fedmq_sdk import SessionHandle

MOST_CLIENTS = 24
MOST_ROUNDS = 15
MOST_NOTES_SHOWN = 3
_COLOURS = {"accepted": "green", "rejected": "red", "failed": "red", "absent": "yellow", "away": "yellow"}


def view_for(
    progress: SessionProgress,
    stream: TextIO,
    folder: Path | None = None,
    is_live: bool = True,
    running: Callable[[], RunningJob | None] = lambda: None,
) -> LiveView | PlainView:
    """Returns the live table if `stream` is a terminal and `is_live`, else plain lines. `folder`: see `Failures`.

    `running`: the trainer that this process runs. No event of it is published before it ends.
    """
    console = Console(file=stream)
    failures = Failures(folder)
    if is_live and console.is_terminal:
        return LiveView(progress, console, failures, running)
    return PlainView(progress, stream, failures)


def watch(session: SessionHandle, stream: TextIO) -> dict[str, Any]:
    """Shows a session until it has ended, and returns its record. Ctrl-C ends the view; the session continues."""
    progress = SessionProgress(session.refresh()["policy"]["rounds"], session.id)
    view = view_for(progress, stream)

    def look() -> str:
        found = session.refresh()
        return awaited_text(found.get("open_round") or found.get("open_validation"), time.time())

    awaiting = Awaiting(look, view.remark)
    with calling(view.__exit__), view, awaiting:
        for row in session.follow():
            event = recorded(row)
            awaiting.note(event)
            progress.feed(event)
            view.event(event)
    return session.refresh()


def recorded(row: Mapping[str, Any]) -> Event:
    """Returns a recorded event, also one of an earlier version that is beyond today's limits of a message."""
    return Event.model_construct(**row)


class PlainView:
    """Prints a line for each event that a person wants to know."""

    def __init__(self, progress: SessionProgress, stream: TextIO, failures: Failures | None = None) -> None:
        self._progress = progress
        self._stream = stream
        self._failures = failures or Failures()
        self._noted: dict[str, int] = {}
        """Each note that is shown, and of how many clients."""
        self._retried = ""
        """The reason of the last attempt that was made again."""
        self._shown = -1
        """The newest model whose validation by clients is shown."""

    def __enter__(self) -> PlainView:
        """Counts older models of a resumed session as shown; the commit of its newest round is published again."""
        committed = [number for number, at in self._progress.rounds.items() if at.seconds is not None]
        if committed:
            self._shown = self._progress.shown(max(committed)) - 2
        return self

    def __exit__(self, *error: object) -> None: ...

    def event(self, event: Event) -> None:
        """Prints the event's lines, if it has some.

        Prints each note once, beside the first client that it is from. The number of further clients follows at the end
        of the attempt.
        """
        if event.name in ("round.committed", "model.validated") or self._progress.state in ENDED:
            self._show_own_data()
        before, found = self._failures.before(event), self._failures.lines(event)
        more = self._further_notes() if event.name in ATTEMPT_ENDS else []
        noted = []
        for note in list(self._progress.notes)[len(self._noted) :]:
            clients = self._progress.notes[note]
            self._noted[note] = len(clients)
            if note not in self._failures.stated:
                noted.append(f"{named(clients)}: {note}")
        for line in (*before, *more, self._line(event), *noted, *found):
            if line:
                say(visible(line), file=self._stream)

    def _further_notes(self) -> list[str]:
        """Returns for each note that is shown the number of clients that it came from since."""
        found = []
        for note, shown in self._noted.items():
            count = len(self._progress.notes[note])
            self._noted[note], more = count, count - shown
            if more and note not in self._failures.stated:
                found.append(f"{more} more client{'s' if more > 1 else ''}: {note}")
        return found

    def remark(self, line: str) -> None:
        """Prints a line that no event caused."""
        say(visible(line), file=self._stream)

    def _show_own_data(self) -> None:
        """Prints the clients' means of each model once.

        A row waits until every client whose update the next round accepted has validated the model, but at most until the
        round after that, or the session, has ended: some clients validate nothing.
        """
        progress = self._progress
        is_over = progress.state in ENDED
        for number, at in sorted(progress.rounds.items()):
            name, following = progress.shown(number), progress.rounds.get(number + 1)
            if name <= self._shown:
                continue
            is_complete = (
                following is not None
                and following.seconds is not None
                and (len(at.own) >= following.counts["accepted"] or self._is_committed(number + 2))
            )
            if not is_complete and not is_over:
                return
            self._shown = name
            if text := own_text(at.own, progress.validators(at)):
                say(visible(f"model {name}: {text}"), file=self._stream)

    def _is_committed(self, number: int) -> bool:
        at = self._progress.rounds.get(number)
        return at is not None and at.seconds is not None

    def _line(self, event: Event) -> str:
        progress, number = self._progress, event.round or 0
        match event.name:
            case "session.waiting":
                return reason_text(event.data)
            case "round.retried":
                return self._retried_line(reason_text(event.data), event.data.get("attempt", 1))
            case "round.committed":
                at = progress.round(number)
                training = f", training: {training_text(at)}" if at.training else ""
                name = f"round {progress.shown(number)} of {progress.rounds_shown}"
                return f"{name}: {answers_text(at)}, {_duration(at)}{training}"
            case "model.validated" if event.data["scope"] == "test" and event.data["metrics"]:
                tests = progress.round(number).tests
                text = scores_text(tests.summary, len(tests))
                return f"model {progress.shown(number)}: {text} (test)" if text else ""
            case "client.vanished" | "combiner.vanished":
                return f"{event.client or event.combiner}: vanished"
        return ""

    def _retried_line(self, reason: str, attempt: int) -> str:
        is_same, self._retried = reason == self._retried, reason
        return f"attempt {attempt}: the same" if is_same else reason


class LiveView:
    """Draws the last rounds, what each client does, and the session's state, eight times a second."""

    def __init__(
        self,
        progress: SessionProgress,
        console: Console,
        failures: Failures | None = None,
        running: Callable[[], RunningJob | None] = lambda: None,
    ) -> None:
        self._progress = progress
        self._failures = failures or Failures()
        self._running = running
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Prints a failure above the table, once. The next frame shows the rest of the event."""
        found = [*self._failures.before(event), *self._failures.lines(event)]
        if found:
            self._live.console.print(Text("\n".join(map(visible, found))))

    def remark(self, line: str) -> None:
        """Prints a line above the table."""
        self._live.console.print(_text(line))

    def _render(self) -> RenderableType:
        progress = self._progress
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for heading in ("round", "clients", "time", "test", "clients' own data", "training"):
            table.add_column(heading, justify="right" if heading in ("round", "clients", "time") else "left")
        rounds = [progress.rounds[number] for number in sorted(progress.rounds.copy())]
        for at in rounds[-MOST_ROUNDS:]:
            number = progress.shown(at.number)
            name = f"{number}/{progress.rounds_shown}" if number else "seed"
            scores = [
                scores_text(at.tests.summary, len(at.tests)),
                scores_text(at.own.summary, progress.validators(at)),
            ]
            metrics = [_text(text) for text in (*scores, training_text(at))]
            table.add_row(name, answers_text(at) if at.number else "", _duration(at), *metrics)
        state = _text(f"{progress.state}{': ' if progress.reason else ''}{progress.reason}", style="dim")
        notes = [
            _text(f"{named(clients)}: {note}", style="yellow")
            for note, clients in progress.notes.copy().items()
            if note not in self._failures.stated
        ]
        return Group(table, self._clients(), *notes[-MOST_NOTES_SHOWN:], state)

    def _clients(self) -> RenderableType:
        clients, running = self._progress.clients.copy(), self._running()
        if running is not None and running.client in clients:
            clients[running.client] = {"train": "training", "validate": "validating"}.get(running.kind, "starting")
        if len(clients) > MOST_CLIENTS:
            return Text(self._progress.summary())
        grid = Table.grid(padding=(0, 3, 0, 0))
        cells = [
            Text.assemble((visible(f"{name} "), "dim"), (visible(word), _COLOURS.get(word, "")))
            for name, word in sorted(clients.items())
        ]
        for start in range(0, len(cells), 3):
            grid.add_row(*cells[start : start + 3])
        return grid


def _text(text: str, style: str = "") -> Text:
    """Returns a peer's text for a live view: on one line, and without the markup of rich."""
    return Text(visible(text), style=style)


def answers_text(at: Round) -> str:
    """Returns the number of each outcome: `4 of 5 accepted, 1 absent`, or `4 accepted` if it is unknown who was asked."""
    trouble = [f"{at.counts[word]} {word}" for word in TROUBLE if at.counts.get(word)]
    asked = f" of {at.asked}" if at.asked else ""
    return ", ".join([f"{at.counts.get('accepted', 0)}{asked} accepted", *trouble])


def training_text(at: Round) -> str:
    """Returns the means of what the trainers reported; one that is not of all clients has a mark."""
    return scores_text(at.training, at.asked)


def _duration(at: Round) -> str:
    if at.seconds is None:
        return ""
    text = f"{at.seconds:.1f} s" if at.seconds >= 0.95 else f"{at.seconds * 1000:.0f} ms"
    return f"{text} since it was resumed" if at.is_resumed else text

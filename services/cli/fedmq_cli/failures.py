"""The failures of a session as a terminal shows them: each mistake once, with its traceback, and then its count."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fedmq.reasons import CRASH_HEADING, OUTPUT_HEADING, alike, fared
from fedmq.visible import visible
from fedmq_cli.output import short
from fedmq_cli.progress import TROUBLE
from fedmq_schemas.messages import Event
from fedmq_schemas.records import ENDED

MOST_TRACEBACKS = 3
"""Number of different mistakes that are shown with traceback and output."""
MOST_LINES = 30
"""Number of lines of one traceback, of which the last ones are shown."""
MOST_OUTPUT = 10
TAIL_BYTES = 16_000
ATTEMPT_ENDS = {"round.committed", "round.retried", *(f"session.{state}" for state in ENDED)}
"""Events after which no client of the attempt answers."""
_VALIDATION = "model"
"""Stands for the outcome in the key of a mistake in a validation."""
_PART = re.compile(rb"^--- .* UTC ---\n", re.MULTILINE)


class Failures:
    """Makes lines of the events of one session.

    `folder`: the state folder of a sandbox, whose files hold the clients' output. None if the clients are elsewhere: then
    an event's last lines of output are shown.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.stated: set[str] = set()
        """The reasons that were shown."""
        self._folder = folder
        self._seen: set[tuple[str, str]] = set()
        self._fresh: dict[tuple[str, str], tuple[str, int]] = {}
        """Mistakes of this attempt that are new: the first client, and how many more clients made it."""

    def before(self, event: Event) -> list[str]:
        """Returns the counts of new mistakes, if the event ends an attempt. They precede the event's own line."""
        if event.name not in ATTEMPT_ENDS:
            return []
        fresh, self._fresh = self._fresh, {}
        return [
            f"{more} more {_counted(outcome, more)} alike" + (f", as {client} did" if len(fresh) > 1 else "")
            for (outcome, _), (client, more) in fresh.items()
            if more
        ]

    def lines(self, event: Event) -> list[str]:
        """Returns the lines of a failure that is unlike all earlier ones, and counts those that are alike."""
        kind, _, outcome = event.name.partition(".")
        reason, traceback = str(event.data.get("reason", "")), str(event.data.get("traceback", ""))
        is_validation = event.name == "model.validated" and bool(traceback)
        if event.client is None or not (is_validation or (kind in ("update", "validation") and outcome in TROUBLE)):
            return []
        key = alike(_VALIDATION if is_validation else outcome, reason)
        if is_validation and alike("failed", reason) in self._seen:  # an error before any step fails trainings too
            self.stated.add(reason)
            return []
        if key in self._seen:
            if key in self._fresh:
                client, more = self._fresh[key]
                self._fresh[key] = client, more + 1
            return []
        self._seen.add(key)
        self.stated.add(reason)
        self._fresh[key] = event.client, 0
        words = [reason] if is_validation else [outcome, reason]
        heading = ": ".join(filter(None, (event.client, *words)))
        return [heading, *(self._details(event.client, traceback) if len(self._seen) <= MOST_TRACEBACKS else ())]

    def _details(self, client: str, traceback: str) -> list[str]:
        trace, _, output = traceback.partition(OUTPUT_HEADING)
        lines = [f"  {line}" for line in trace.splitlines()[-MOST_LINES:]]
        path, where = self._output_of(client)
        is_crash = any(line.startswith(CRASH_HEADING) for line in trace.splitlines())
        # The file of a crash ends with the calls of all threads, of which the traceback holds those that matter.
        found = output.splitlines() if path is None or is_crash else last_part(path)
        found = [line for line in found if line.strip()]
        if found:
            lines.append(f"  last lines of its output, {where}:")
            lines += [f"    {line}" for line in found[-MOST_OUTPUT:]]
        return [visible(line.expandtabs()) for line in lines]

    def _output_of(self, client: str) -> tuple[Path | None, str]:
        """Returns the file that ends with the client's newest output, if it is here, and words on where its output is.

        A file of more than 1 MB becomes `output.log.1`, in place of an older one that is lost.
        """
        if self._folder is None:
            older = "(older: output.log.1, if there is one)"
            return None, f"the newest of which is in output.log {older} in the state folder of {client}"
        path = self._folder / "clients" / client / "output.log"
        older_path = path.with_name("output.log.1")
        if not older_path.exists():
            return path, f"all of which is in {short(str(path))}"
        if not path.exists():  # nothing was printed since
            return older_path, f"the newest of which is in {short(str(older_path))}"
        return path, f"the newest of which is in {short(str(path))} (older: output.log.1)"


def _counted(outcome: str, count: int) -> str:
    plural = "s" if count > 1 else ""
    return f"validation{plural} failed" if outcome == _VALIDATION else f"client{plural} {fared(outcome, count)}"


def last_part(path: Path) -> list[str]:
    """Returns the last lines of the newest part of a client's output file. Nothing if it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(-min(TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return _PART.split(file.read())[-1].decode(errors="replace").splitlines()
    except OSError:
        return []

"""Where a trainer was when C code crashed its worker: what of Python's faulthandler's text helps the user."""

from __future__ import annotations

import linecache
import re
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from traceback import StackSummary

from fedmq.reasons import CRASH_HEADING
from fedmq_client.job.place import DUMPED_FRAME, own_path

_THREAD = re.compile(r"^(Current thread|Thread|Stack) .*\(most recent call first\):$", re.MULTILINE)
_Calls = list[tuple[str, int, str]]
"""File, line and function of each call."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash in C code.

    - `traceback`: the calls of the thread that matters, from the user's first one on, the most recent one last.
    - `places`: those of the package's own code, such as `trainer.py:18 in train`; empty if there are none.
    - `printed`: what the job printed before.
    """

    traceback: str
    places: list[str]
    printed: str


def crash_in(output: str, package: Path) -> Crash | None:
    """Returns the crash that a job's output ends with; None if it does not.

    faulthandler prints all threads, and beneath the user's calls those of FedMQ, and the names of all extension modules.
    The calls are of the thread that crashed, or of the main one if only that one is in the package's code.
    """
    printed, fatal, dump = f"\n{output}".rpartition(f"\n{CRASH_HEADING}")
    if not fatal:
        return None
    error, *threads = _THREAD.split(dump)
    error = error.strip().partition("\n")[0]
    crashed: _Calls = []
    main: _Calls = []  # its calls are printed last
    shown: _Calls = []
    for kind, text in zip(threads[::2], threads[1::2], strict=True):
        calls = [(file, int(line), name) for file, line, name in DUMPED_FRAME.findall(text)][::-1]
        own = _from_first_own(calls, package)
        main = own or main
        if kind != "Thread":
            crashed, shown = own, calls
    shown = crashed or main or shown
    places = [f"{path}:{line} in {name}" for file, line, name in shown if (path := own_path(package, file))]
    frames = StackSummary.from_list([(*call, _source(package, *call[:2])) for call in shown]).format()
    heading = ["Traceback (most recent call last):\n"] if frames else []
    fatal = f"{CRASH_HEADING}{error}\n"
    return Crash("".join([*heading, *frames, fatal]), places, printed.strip("\n"))


def _source(package: Path, file: str, line: int) -> str:
    """Returns a line of the package's own code; of another file, which the text may name falsely, nothing is read."""
    if own_path(package, file) is None or not Path(file).is_file():
        return ""
    linecache.checkcache(file)
    return linecache.getline(file, line)


def _from_first_own(calls: _Calls, package: Path) -> _Calls:
    """Returns the calls from the first one of the package's own code on, the outermost one first; empty if none is."""
    return list(dropwhile(lambda call: own_path(package, call[0]) is None, calls))

"""A private MongoDB-protocol server, briskdb's, for tests and for `make chaos`. It knows no accounts.

It has its own port and folder, so several run side by side. It takes no write concern but the server's own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from support.servers.halting import halted
from support.servers.ports import free_ports, listens
from support.waiting import until

# It ends when its input does: also when the process that started it dies.
_PROGRAM = """
import sys, briskdb
db = briskdb.open(sys.argv[1], shards=2, documents=True)
server = db.serve(mongo=sys.argv[2])
sys.stdin.read()
server.close()
db.close()
"""


def missing() -> str | None:
    """Why no such server can be started on this machine, or None if it can."""
    found = importlib.util.find_spec("briskdb")
    return None if found else "the MongoDB stand-in briskdb is not installed: pip install 'fedmq[dev]'"


class MongoServer:
    """`start` may be called again after `stop` or `kill`; address and documents stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        [self.port] = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> MongoServer:
        """Returns when it takes connections. Running already: nothing happens."""
        if self._process is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "output.log").open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, str(self.folder / "data"), f"{self.host}:{self.port}"],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            process = self._process
            try:
                until(lambda: listens(self.port) or process.poll() is not None, "briskdb listens")
                assert process.poll() is None, "briskdb ended"
            except (AssertionError, TimeoutError) as error:
                self.kill()
                raise RuntimeError(f"briskdb did not start: see {self.folder}/output.log") from error
        return self

    def stop(self) -> None:
        """Shuts down in order. Not running: nothing happens."""
        if self._process is not None:
            self._process.communicate(timeout=30)
            self._process = None

    def kill(self) -> None:
        """Ends it at once, with no chance to write anything. Not running: nothing happens."""
        if self._process is not None:
            self._process.kill()
            self.stop()

    def halted(self) -> AbstractContextManager[None]:
        """Hangs it until the end of the context."""
        assert self._process is not None
        return halted(self._process.pid)

    def remove(self) -> None:
        """Ends it for good."""
        self.kill()

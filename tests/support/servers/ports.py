"""Ports for the servers that tests start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

# Above what package servers use, below what the system gives to outgoing connections.
LOWEST_PORT = 12_000
HIGHEST_PORT = 32_000
BLOCK = 250
_CLAIMS = Path(tempfile.gettempdir()) / f"test-ports-{os.getuid()}"


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody on this machine uses now. Nobody else who asks here gets them while this process lives."""
    return [next(_ports) for _ in range(count)]


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _unused() -> Iterator[int]:
    """A server that is started again wants its own port back, so no port is given twice. A claim ends with its process,
    by the operating system."""
    _CLAIMS.mkdir(exist_ok=True)
    claims = []
    blocks = list(range(LOWEST_PORT, HIGHEST_PORT, BLOCK))
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        claim = (_CLAIMS / str(block)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            continue
        claims.append(claim)
        for port in range(block, block + BLOCK):
            if _is_free(port):
                yield port
    raise RuntimeError(f"no port between {LOWEST_PORT} and {HIGHEST_PORT} is free")


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = _unused()

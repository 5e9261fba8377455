"""Serves the web application at a port, in a thread of its own, with bounds on connections and on their silence."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedmq.errors import ConfigError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
HEAD_SECONDS = 10.0
"""A connection is closed if the head of its request has not arrived that long after the connection or the last answer."""
MOST_ANSWERED = 400
"""Open connections above which requests are answered with 503. A page that is looked at has one, `/events/stream` too."""
MOST_OPEN = 500
"""Open connections above which a new one is closed at once. A process may have 1,024 files open where no limit is set."""


class BoundedConnection(H11Protocol):
    """A connection with a deadline for the head of each request, which uvicorn does not have."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins the deadline of the first request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_OPEN:
            transport.abort()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Ends the deadline once a head is whole. Bytes alone do not extend it."""
        super().data_received(data)
        if not self._is_waiting():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Begins the deadline of the next request."""
        super().on_response_complete()
        if self._is_waiting():
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        return bool(getattr(self.cycle, "response_complete", True))  # there is none before the first request

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _close(self) -> None:
        if self._is_waiting():
            self.transport.abort()


class ApiServer:
    """Binds its port when it is made, and serves between `start` and `stop`.

    `port` 0 takes any free port. With a certificate and its key (PEM) the server speaks https. Raises ConfigError if the
    port is taken, or if certificate and key can't be used.
    """

    def __init__(
        self, app: Any, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        _check_pair(certificate, key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"can't listen on {host}:{port} ({error.strerror}): choose another port") from error
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http=BoundedConnection,
            limit_concurrency=MOST_ANSWERED,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="fedmq-api", daemon=True)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if certificate else 'http'}://{shown}:{self.port}"

    def start(self) -> None:
        """Returns when requests are answered. Raises ConfigError if the server does not start within ten seconds."""
        self._thread.start()
        ends = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > ends:
                raise ConfigError(f"the API at {self.url} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Gives open requests a second to end, then stops. Idempotent."""
        log = logging.getLogger("uvicorn.error")
        # Streams of events are open, and each that is cancelled would be an error with a traceback.
        log.addFilter(_drop)
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        log.removeFilter(_drop)
        self._socket.close()


def _drop(record: logging.LogRecord) -> bool:
    return False


def _check_pair(certificate: Path | None, key: Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise ConfigError("FEDN_REDUCER_TLS_KEY is the key of no certificate: set FEDN_REDUCER_TLS_CERT too")
        return
    files = f"FEDN_REDUCER_TLS_CERT={certificate}" + (f" with FEDN_REDUCER_TLS_KEY={key}" if key else "")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate, key, password=""
        )  # else OpenSSL asks at the terminal
    except ssl.SSLError as error:
        raise ConfigError(f"{files}: no certificate and its key, both in PEM ({error.reason})") from error
    except OSError as error:
        raise ConfigError(f"{files} can't be read ({error.strerror}): it is read as user {os.getuid()}") from error

"""The dashboard's HTTP server.

It is waitress, as Werkzeug's own server is made for development: that one starts a thread for each connection, without a
bound and without a time limit. Waitress has both, is pure Python, and needs nothing else.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from fedmq.errors import ConfigError
from fedmq.records.base import Records
from fedmq.web.access import Access
from fedmq_dashboard.app import create_app
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.routes import MOST_STREAMS

THREADS = MOST_STREAMS + 16
"""An open news stream holds one. The others answer all other requests."""
MOST_CONNECTIONS = 500
SILENT_SECONDS = 15
"""A connection on which nothing is requested, or whose request stands still, is closed after that."""
LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 1024 * 1024
"""In bytes. The page sends its controls and what it shows: some kB."""
CLOSE_SECONDS = 5


class DashboardServer:
    """Serves until stopped. Open news streams block no other request.

    Port 0 stands for any free port. Raises ConfigError if it can't listen on the port. `access`: who may look, by default
    this machine.
    """

    def __init__(
        self,
        records: Records,
        live: Live,
        host: str = "127.0.0.1",
        port: int = 5111,
        alliance: str = "",
        access: Access | None = None,
    ) -> None:
        self._live = live
        app = create_app(History(records), live, alliance, access)
        try:
            listening = _listen(host, port)
        except OSError as error:
            raise ConfigError(f"the dashboard can't listen on {host}:{port}: {error}") from error
        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            app.server,
            map=self._sockets,
            sockets=[listening],
            threads=THREADS,
            connection_limit=MOST_CONNECTIONS,
            channel_timeout=SILENT_SECONDS,
            cleanup_interval=SILENT_SECONDS // 3,
            max_request_header_size=LARGEST_HEAD,
            max_request_body_size=LARGEST_BODY,
            clear_untrusted_proxy_headers=True,
            ident="",
        )
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.run, name="dashboard", daemon=True)

    def start(self) -> None:
        """Starts the server's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the server, and ends open streams. Idempotent."""
        self._live.close()
        self._server.task_dispatcher.shutdown(timeout=CLOSE_SECONDS)
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(self._close)
            self._thread.join()
        self._close()

    def _close(self) -> None:
        for channel in [*self._server.active_channels.values()]:
            channel.handle_close()  # closes its answers too: those above 1 MB are in temporary files
        wasyncore.close_all(self._sockets, ignore_all=True)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening

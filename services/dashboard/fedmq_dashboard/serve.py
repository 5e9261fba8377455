"""The dashboard's HTTP server."""

from __future__ import annotations

import logging
import threading

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from fedmq.errors import ConfigError
from fedmq.records.base import Records
from fedmq_dashboard.app import create_app
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live

log = logging.getLogger("fedmq.dashboard")


class _Quiet(WSGIRequestHandler):
    """Logs requests at debug level only, and uses HTTP/1.1, which keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        log.debug(message, *args)


class DashboardServer:
    """Serves until stopped. Each request has a thread of its own, so that open news streams block no other request.

    Port 0 stands for any free port. Raises ConfigError if it can't listen on the port.
    """

    def __init__(
        self, records: Records, live: Live, host: str = "127.0.0.1", port: int = 5111, alliance: str = ""
    ) -> None:
        self._live = live
        app = create_app(History(records), live, alliance)
        try:
            self._server: BaseWSGIServer = make_server(host, port, app.server, threaded=True, request_handler=_Quiet)
        except (OSError, SystemExit) as error:
            raise ConfigError(f"the dashboard can't listen on {host}:{port}: {error}") from error
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="dashboard", daemon=True)

    def start(self) -> None:
        """Starts the server's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the server, and closes open streams. Idempotent."""
        self._live.close()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

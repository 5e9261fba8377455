"""The HTTP side of `AccountGiver`: `POST /account` answers with the account of the host that asks."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fedmq.errors import FedMQError, Refused, Transient
from fedmq_cli.deployment.giving import AccountGiver

SECONDS = 10.0
"""A connection that sends nothing for so long is closed."""
_LOG = logging.getLogger(__name__)


class AccountServer:
    """Serves on `port` of `host` (0: any free one). Never takes an address or a name from the request itself.

    - `settings(name, password)`: the variables that a client with this account needs.
    - `name_of(address)`: the name of the host at an address. Raises OSError if it has none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        giver: AccountGiver,
        settings: Callable[[str, str], Mapping[str, str]],
        name_of: Callable[[str], str] = lambda address: socket.gethostbyaddr(address)[0],
    ) -> None:
        class AccountHandler(BaseHTTPRequestHandler):
            timeout = SECONDS

            def do_GET(self) -> None:
                self._answer(*((200, {"status": "ok"}) if self.path == "/health" else (404, {})))

            def do_POST(self) -> None:
                self._answer(*(self._give() if self.path == "/account" else (404, {})))

            def _give(self) -> tuple[int, Mapping[str, str]]:
                address = self.client_address[0]
                try:
                    asking = name_of(address)
                    name, password = giver.give(asking)
                except OSError as error:
                    return 403, {
                        "error": f"{address} has no name here ({error}): only this network's containers are served"
                    }
                except Refused as error:
                    _LOG.warning("no account for %s: %s", address, error.reason)
                    return 403, {"error": error.reason}
                except Transient as error:
                    return 503, {"error": error.reason}
                except FedMQError as error:
                    _LOG.error("no account for %s: %s", address, error.reason)
                    return 503, {"error": error.reason}
                _LOG.info("gave the account %s to %s", name, asking)
                return 200, settings(name, password)

            def _answer(self, status: int, document: Mapping[str, Any]) -> None:
                data = json.dumps(document).encode()
                with suppress(OSError):  # a client that did not wait for the answer
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Logs nothing: each account that is given or refused is logged above."""

        self._server = ThreadingHTTPServer((host, port), AccountHandler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def serve(self) -> None:
        """Serves until `stop`."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Ends `serve`, which another thread runs."""
        self._server.shutdown()
        self._server.server_close()

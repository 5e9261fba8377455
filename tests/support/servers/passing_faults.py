"""A server whose faults pass, as urllib3 meets it."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pytest
import urllib3
from urllib3.exceptions import ProtocolError


class PassingFaults:
    """The first GET of each address is answered with 503, and the second not at all; what follows reaches the server.

    With `is_lasting` no request reaches it. `seen`: the number of requests of each address.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        self.is_lasting = False
        reach = urllib3.PoolManager.request

        def request(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
            self.seen[url] += 1
            if self.seen[url] == 1 and (method == "GET" or self.is_lasting):
                body = b'{"error": "MongoDB refused with code 112"}'
                return urllib3.HTTPResponse(io.BytesIO(body), status=503, preload_content=False)
            if self.seen[url] == 2 and (method == "GET" or self.is_lasting):
                raise ProtocolError("connection reset")
            return reach(pool, method, url, **options)

        monkeypatch.setattr(urllib3.PoolManager, "request", request)
        monkeypatch.setattr("fedmq_sdk.rest.PAUSE", 0.0)

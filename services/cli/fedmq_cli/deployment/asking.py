"""A client asks for its account at its start, and keeps it in memory alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import urllib3

from fedmq.errors import ConfigError

AGAIN_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


def ask_for_account(url: str, sleep: Callable[[float], None] = time.sleep) -> dict[str, str]:
    """Returns the settings of this host's account, from the service at `url` (see `AccountServer`), by their variables.

    Waits until the service gives it. Raises ConfigError, with its reason, if the service refuses: for a client that was
    revoked, for example.
    """
    pool = urllib3.PoolManager(num_pools=1, timeout=30.0, retries=False)
    last = ""
    while True:
        try:
            answer = pool.request("POST", f"{url.rstrip('/')}/account")
            document = answer.json()
            if answer.status == 200:
                return {str(name): str(value) for name, value in document.items()}
            reason = str(document.get("error", f"status {answer.status}"))
            if answer.status == 403:
                raise ConfigError(f"{url} gives this client no account: {reason}")
        except (urllib3.exceptions.HTTPError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
        if reason != last:
            _LOG.warning("no account from %s yet, trying again: %s", url, reason)
            last = reason
        sleep(AGAIN_SECONDS)

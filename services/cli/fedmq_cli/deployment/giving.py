"""Gives each client of a deployment an account of its own, when it asks for one at its start.

A container that asks is recognized by the name that the deployment's own name server gives its address:
Docker's for a container of the network, the cluster's for a pod of a StatefulSet.
So a client holds no secret before it starts, cannot ask for another's
account, and never meets the administrator's.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

from fedmq.brokers.base import Accounts
from fedmq.errors import Refused

HOSTS = r"^[a-z0-9][a-z0-9_-]*[_-]client[_-]([0-9]+)\."
"""Containers of the service `client` in Compose: `PROJECT-client-3.NETWORK`."""


class AccountGiver:
    """Makes accounts named `BASE-NUMBER`. `folder`: remembers which it has made, and for whom.

    `hosts`: matches the names of hosts that may ask; its first group is the number.
    """

    def __init__(self, accounts: Accounts, folder: Path, hosts: str, base: str) -> None:
        self._accounts = accounts
        self._folder = folder
        self._hosts = re.compile(hosts)
        self._base = base
        self._one_at_a_time = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, host: str) -> tuple[str, str]:
        """Returns the name and the password of the account of a client on `host`. The password is a new one each time.

        Raises Refused, with the remedy, for a host that is no client's, for an account that was revoked, and for one that
        belongs to another host. Raises as `Accounts.add` does.
        """
        found = self._hosts.match(host)
        if found is None:
            raise Refused(f"{host} is not the host of a client: only {self._hosts.pattern} is given an account")
        name = f"{self._base[:50].rstrip('-')}-{found[1]}"
        # Compose 1 and 2 join a container's name by another character.
        owner = host.partition(".")[0].replace("_", "-")
        with self._one_at_a_time:
            self._check(name, owner)
            place = self._folder / name
            place.write_text(f"making {owner}", encoding="utf-8")
            password = self._accounts.add(name)
            place.write_text(f"made {owner}", encoding="utf-8")
        return name, password

    def _check(self, name: str, owner: str) -> None:
        place = self._folder / name
        state, _, known = place.read_text(encoding="utf-8").partition(" ") if place.exists() else ("", "", owner)
        exists = name in self._accounts.names()
        if known != owner:
            raise Refused(f"the account {name} is that of {known}, not of {owner}: set another CLIENT_NAME_BASE")
        if state == "made" and not exists:
            raise Refused(f"the account {name} was revoked: `fedmq account add {name}` lets the client come back")
        if not state and exists:
            raise Refused(
                f"the account {name} exists, and was not made for a container: `fedmq account revoke {name}` frees its name"
            )

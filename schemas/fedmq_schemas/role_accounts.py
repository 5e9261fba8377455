"""The servers' accounts at the broker: one of each role, with the permissions that the role needs and no more.

An account is named `ALLIANCE.ROLE`. A client's account has its client's name, which holds no dot, so no client can have the
name of a server. An alliance whose servers share one account of another name works as well (`server_permissions`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from fedmq_schemas.topology import EXCHANGES, REDUCER, Permissions, Topology

Role = Literal["reducer", "combiner", "dashboard", "monitor"]
ROLES: tuple[Role, ...] = get_args(Role)

NOTHING = "^$"
_ANY = "[^.]+"


def role_account(topology: Topology, role: Role) -> str:
    """Returns the name of the account that all processes of a role share."""
    return f"{topology.alliance}.{role}"


def server_accounts(topology: Topology, own: str | None) -> frozenset[str] | None:
    """Returns the accounts whose messages are those of the alliance's servers.

    They are the accounts of the roles that publish, and `own`, the account of the process that asks. None: accounts are not
    checked, as in a process that holds the whole alliance.
    """
    if own is None:
        return None
    return frozenset({own, role_account(topology, "reducer"), role_account(topology, "combiner")})


@dataclass(frozen=True, slots=True)
class RoleAccount:
    """The permissions of a role's account. `tags`: RabbitMQ's, which open its management API."""

    permissions: Permissions
    tags: tuple[str, ...] = ()


def role_accounts(topology: Topology) -> dict[Role, RoleAccount]:
    """Returns what each role may do."""
    return {role: _MADE[role](topology) for role in ROLES}


def _reducer(topology: Topology) -> RoleAccount:
    """Declares what the alliance has, and reads all of it but the clients' mailboxes."""
    alliance = re.escape(topology.alliance)
    everything = rf"^{alliance}\."
    return RoleAccount(Permissions(everything, everything, rf"^{alliance}\.(?!client\.)", {}, {}), ("monitoring",))


def _combiner(topology: Topology) -> RoleAccount:
    """Declares and reads combiners' inboxes; publishes neither plans, nor answers of the reducer, nor starts."""
    inboxes = _queues(rf"combiner\.{_ANY}")
    # Each inbox is declared with the exchanges that it is bound to, and with the queue of its dead letters.
    configure = _names(topology, "task", "update", "dead", inboxes, _queues("dead"))
    write = _names(topology, "assignment", "task", "update", "event", "dead", inboxes, _queues("dead"))
    read = _names(topology, "task", "update", "dead", inboxes)
    return RoleAccount(
        Permissions(
            configure,
            write,
            read,
            topic_write={
                topology.exchange("assignment"): rf"^assignment\.{REDUCER}\.{_ANY}$",
                topology.exchange("task"): rf"^task\.{_ANY}$",
            },
            topic_read={topology.exchange("task"): rf"^plan\.{_ANY}$"},
        )
    )


def _dashboard(topology: Topology) -> RoleAccount:
    """Reads the events by a queue of its own, and publishes nothing."""
    observers = _queues(rf"observer\.{_ANY}")
    return RoleAccount(
        Permissions(
            _names(topology, "event", observers),
            _names(topology, observers),
            _names(topology, "event", observers),
            topic_write={topology.exchange(name): NOTHING for name in EXCHANGES},
            topic_read={},
        )
    )


def _monitor(topology: Topology) -> RoleAccount:
    """Reads numbers from the management API, as a scaler does, and no message."""
    return RoleAccount(Permissions(NOTHING, NOTHING, NOTHING, {}, {}), ("monitoring",))


def _queues(name: str) -> str:
    """Returns the pattern of the queues `name`, of every generation of the topology."""
    return rf"{name}\.v[0-9]+"


def _names(topology: Topology, *names: str) -> str:
    return rf"^{re.escape(topology.alliance)}\.({'|'.join(names)})$"


_MADE: dict[Role, Callable[[Topology], RoleAccount]] = {
    "reducer": _reducer,
    "combiner": _combiner,
    "dashboard": _dashboard,
    "monitor": _monitor,
}

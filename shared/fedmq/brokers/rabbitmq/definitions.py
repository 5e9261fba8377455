"""Definitions for RabbitMQ: the accounts with which a broker starts, which it imports from a file (`load_definitions`)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from fedmq_schemas.role_accounts import NOTHING, RoleAccount, role_account, role_accounts
from fedmq_schemas.topology import Topology

VHOST = "/"
SALT_BYTES = 4


def definitions(
    topology: Topology, administrator: str, passwords: Mapping[str, str], salts: Mapping[str, bytes]
) -> dict[str, Any]:
    """Returns the definitions of a broker for one alliance: its administrator, and the account of each role.

    `passwords` and `salts` (4 bytes each) are by the names of accounts, the administrator's among them. The same arguments
    give the same definitions. A broker that imports definitions makes no default account.
    """
    roles = {role_account(topology, role): made for role, made in role_accounts(topology).items()}
    tags = {administrator: "administrator"} | {name: ",".join(made.tags) for name, made in roles.items()}
    everything = {"user": administrator, "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [
            {
                "name": name,
                "password_hash": password_hash(passwords[name], salts[name]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": tags[name],
            }
            for name in tags
        ],
        "permissions": [everything, *(_permissions(name, made) for name, made in roles.items())],
        "topic_permissions": [each for name, made in roles.items() for each in _topic_permissions(name, made)],
    }


def password_hash(password: str, salt: bytes) -> str:
    """Returns a password as RabbitMQ keeps it: the salt, and SHA-256 over salt and password, in base64.

    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _permissions(name: str, made: RoleAccount) -> dict[str, str]:
    permitted = made.permissions
    own = {"configure": permitted.configure, "write": permitted.write, "read": permitted.read}
    return {"user": name, "vhost": VHOST, **own}


def _topic_permissions(name: str, made: RoleAccount) -> list[dict[str, str]]:
    write, read = made.permissions.topic_write, made.permissions.topic_read
    return [
        {
            "user": name,
            "vhost": VHOST,
            "exchange": exchange,
            "write": write.get(exchange, NOTHING),
            "read": read.get(exchange, ".*"),
        }
        for exchange in sorted({*write, *read})
    ]

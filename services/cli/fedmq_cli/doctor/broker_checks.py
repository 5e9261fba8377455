"""Checks of the broker: account and permissions, who consumes from it, and its limit of open files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import unquote, urlsplit

from fedmq.brokers.base import Administration
from fedmq.brokers.registry import open_administration
from fedmq.errors import ConfigError, FedMQError, NotFound, Refused
from fedmq.process.settings import AllianceSettings, ClientSettings, CombinerSettings, ReducerSettings
from fedmq_cli.doctor.findings import Notable
from fedmq_schemas.topology import Topology

OLDEST_RABBITMQ = (3, 10)
OWN_HANDLES = 200
"""About how many files RabbitMQ holds open for itself."""
HANDLES_OF_A_CLIENT = 4
"""Its connection, and up to three files of its mailbox."""
UNNAMED = "doctor"
"""Stands for the characters that a client without a name would draw."""
DRAWN = "none is set: one is drawn at the first start, and kept in the state folder"


def broker(settings: AllianceSettings) -> str:
    """Connects, and tries the permissions that the role needs."""
    topology = Topology(settings.alliance)
    with _opened(settings) as administration:
        try:
            if not isinstance(settings, ClientSettings):
                version = administration.probe(topology)
            elif settings.client_name is not None:
                version = administration.probe(topology, settings.client_name)
            else:
                version = administration.probe(None)
                _try_drawn_name(administration, settings)
        except NotFound as error:
            raise Notable(error.reason) from error
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST_RABBITMQ:
        raise ConfigError(f"RabbitMQ {version} is too old: 3.10 or newer")
    return f"RabbitMQ {version}, and the account may do what it must"


def _try_drawn_name(administration: Administration, settings: ClientSettings) -> None:
    """Raises ConfigError if the account is one client's own, which permits no drawn name."""
    drawn = f"{settings.client_name_base[:57]}-{UNNAMED}"
    try:
        administration.probe(Topology(settings.alliance), drawn)
    except NotFound:
        raise
    except Refused as error:
        account = unquote(urlsplit(settings.amqp_url.get_secret_value()).username or "guest")
        raise ConfigError(
            f"FEDN_CLIENT_NAME is not set, so the client would draw a name such as {drawn}, under which the account "
            f"{account!r} may not publish: if ALLIANCE_UID={settings.alliance} is right, set FEDN_CLIENT_NAME={account}"
        ) from error


def reducer(settings: AllianceSettings) -> str:
    """Looks whether a reducer consumes from the alliance's inbox. The account needs no permission for it."""
    count = _consumers(settings, Topology(settings.alliance).reducer().name)
    if count is None:
        raise Notable(f"no alliance {settings.alliance} has been here: see ALLIANCE_UID, or start its reducer")
    if count == 0:
        raise Notable(f"no reducer of alliance {settings.alliance} runs now: what starts here waits for one")
    return f"a reducer of alliance {settings.alliance} runs" + (f", and {count - 1} stand by" if count > 1 else "")


def client_name(settings: ClientSettings) -> str:
    """Looks whether another process consumes from the client's mailbox."""
    remedy = "give this one an account and a FEDN_CLIENT_NAME of its own"
    return _free_name(settings, "client", settings.client_name, remedy)


def combiner_name(settings: CombinerSettings) -> str:
    """Looks whether another process consumes from the combiner's inbox, or stands by for it."""
    remedy = "give this one a FEDN_COMBINER_NAME of its own, as it would stand by for the other one"
    return _free_name(settings, "combiner", settings.combiner_name, remedy)


def _free_name(settings: AllianceSettings, role: Literal["client", "combiner"], name: str | None, remedy: str) -> str:
    if name is None:
        return DRAWN
    topology = Topology(settings.alliance)
    inbox = topology.client(name) if role == "client" else topology.combiner(name)
    if any(_consumers(settings, each) for each in inbox.names):
        raise Notable(f"a {role} named {name} runs already: if it is not the one that runs here, {remedy}")
    return f"no {role} named {name} runs"


def client_accounts(settings: ReducerSettings) -> str:
    """Looks whether an account of a client may have any number of connections, as those of version 0.2 may."""
    with _opened(settings, settings.management_url) as administration:
        try:
            limits = administration.accounts(Topology(settings.alliance)).limits()
        except FedMQError as error:
            return f"the limits of clients' accounts are not known: {error.reason}"
    free = [name for name, each in limits.items() if each.connections is None or each.channels is None]
    if free:
        words = ", ".join(free[:5]) + (f" and {len(free) - 5} more" if len(free) > 5 else "")
        raise Notable(f"accounts of clients without a limit of connections or channels: {words}: fedmq account limit")
    return f"{len(limits)} accounts of clients, each with limits of connections and channels"


def file_handles(settings: ReducerSettings) -> str:
    """Compares the broker's limit of open files with what its connections and queues need now."""
    with _opened(settings, settings.management_url) as administration:
        try:
            found = administration.file_handles()
        except FedMQError as error:
            raise Notable(f"the broker's limit of open files is not known: {error.reason}") from error
    if found.limit == 0:
        raise Notable("the broker has not reported its limit of open files yet")
    words = f"RabbitMQ may open {found.limit} files, and needs about {found.needed + OWN_HANDLES} now"
    room = found.limit - found.needed - OWN_HANDLES
    if room < found.needed:
        raise Notable(
            f"{words}, and it stalls near the limit: give it 65536, by `LimitNOFILE=65536` for systemd, "
            "`ulimits: nofile` for containers"
        )
    return f"{words}: room for about {room // HANDLES_OF_A_CLIENT} more clients"


def _consumers(settings: AllianceSettings, queue: str) -> int | None:
    with _opened(settings) as administration:
        return administration.consumers(queue)


@contextmanager
def _opened(settings: AllianceSettings, api_url: str | None = None) -> Iterator[Administration]:
    administration = open_administration(settings.amqp_url.get_secret_value(), api_url)
    try:
        yield administration
    finally:
        administration.close()

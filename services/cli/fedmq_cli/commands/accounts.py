"""`fedmq account`: accounts at the broker, each of which permits what one client needs and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmq.errors import ConfigError
from fedmq_cli.output import AsJson, print_columns, print_json, print_next, say

if TYPE_CHECKING:
    from fedmq.brokers.base import AccountLimits, Accounts
    from fedmq.process.settings import ManagementSettings

account = typer.Typer(
    no_args_is_help=True,
    help="Make and revoke clients' accounts at RabbitMQ. FEDN_AMQP_URL's account needs the tag administrator.",
)
ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help="The client's name, which is its account's too.")]


@account.command()
def add(client: ClientName, as_json: AsJson = False) -> None:
    """Make an account, or give it a new password; print the settings that its client needs, in the form of an .env file."""
    from fedmq.brokers.base import CLIENT_LIMITS

    with _opened() as (settings, accounts):
        had_account = client in accounts.names()
        password = accounts.add(client)
        variables = _variables(settings, client, password)
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        say(f"{name}={value}")
    if had_account:
        say(
            f"\n{client} had an account: its password is replaced. A client that runs continues until its connection is "
            "lost, and then ends: start it again with these settings.",
            err=True,
        )
    else:
        say(f"\nmade the account {client}", err=True)
    say(
        f"It publishes only as itself, reads only its own mailbox, and may have {CLIENT_LIMITS.connections} connections "
        f"with {CLIENT_LIMITS.channels} channels. The password is kept nowhere else.",
        err=True,
    )
    print_next("fedmq doctor client, with these settings", f"fedmq account revoke {client}", err=True)


@account.command()
def revoke(client: ClientName, as_json: AsJson = False) -> None:
    """Remove an account: its connections end at once, and its updates are no longer accepted."""
    with _opened() as (_, accounts):
        was_there = accounts.revoke(client)
    if as_json:
        print_json({"client": client, "had_account": was_there})
        return
    say(f"{client} is cut off" if was_there else f"there was no account {client}")
    print_next("fedmq account list", "fedmq clients")


@account.command()
def limit(
    client: Annotated[str | None, typer.Argument(metavar="[CLIENT]", help="A client's name. Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Limit the connections and channels of accounts that exist. `add` does so for new ones; passwords stay."""
    with _opened() as (_, accounts):
        for name in accounts.names() if client is None else [client]:
            if not accounts.limit(name):
                raise ConfigError(f"there is no account {name}: fedmq account add {name}")
        limits = accounts.limits()
    if as_json:
        print_json({name: asdict(each) for name, each in limits.items()})
        return
    _print_limits(limits)
    print_next("fedmq account list")


@account.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the clients that have an account, and how many connections and channels each may have."""
    with _opened() as (_, accounts):
        limits = accounts.limits()
    if as_json:
        print_json(list(limits))
        return
    _print_limits(limits)
    print_next("fedmq account add CLIENT")


@account.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the secrets; each container is given a folder of it.")],
    as_json: AsJson = False,
) -> None:
    """Make the secrets of a deployment that are missing: files of mode 600, with the accounts for RabbitMQ's definitions.

    FEDN_AMQP_URL names the broker's host and port, by default localhost:5672. An account in it is used by all roles; the
    account guest:guest is not. A variable that has a value, such as RABBITMQ_DEFAULT_PASS, decides that secret. The command
    may be repeated.
    """
    from fedmq_cli.deployment.given import GivenSecrets
    from fedmq_cli.deployment.secret_store import make_secrets

    written = make_secrets(folder, GivenSecrets.load())
    if as_json:
        print_json(written)
        return
    for name in written:
        say(f"wrote {name}")
    say(f"all secrets are in {folder}; keep a copy of passwords.json")


@account.command()
def serve(
    hosts: Annotated[str, typer.Option(help="Names of the hosts that may ask; the group is the client's number.")] = "",
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8100,
) -> None:
    """Give each container of clients an account of its own when it starts (`fedmq run client --accounts URL`).

    A host is recognized by the name that its address has at the name server of the deployment: by default the containers of
    Compose's service `client`. CLIENT_NAME_BASE begins the accounts' names. A revoked account is not given again.
    """
    from fedmq.process.logs import configure_service_logs
    from fedmq.process.settings import ClientSettings
    from fedmq_cli.deployment.giving import HOSTS, AccountGiver
    from fedmq_cli.deployment.serving import AccountServer

    with _opened() as (settings, accounts):
        configure_service_logs(settings.log_level, role="accounts")
        base = ClientSettings.load().client_name_base
        giver = AccountGiver(accounts, settings.state_dir / "accounts", hosts or HOSTS, base)
        AccountServer(bind, port, giver, partial(_variables, settings)).serve()


def _print_limits(limits: dict[str, AccountLimits]) -> None:
    rows = [
        {"client": name, "connections": each.connections or "any", "channels": each.channels or "any"}
        for name, each in limits.items()
    ]
    columns = {"client": "client", "connections": "connections", "channels": "channels"}
    print_columns(rows, columns, "no client has an account of its own")


@contextmanager
def _opened() -> Iterator[tuple[ManagementSettings, Accounts]]:
    from fedmq.brokers.registry import open_administration
    from fedmq.process.settings import ManagementSettings
    from fedmq.tls import trust
    from fedmq_schemas.topology import Topology

    settings = ManagementSettings.load()
    trust(settings.ca_file)
    broker = open_administration(settings.amqp_url.get_secret_value(), settings.management_url)
    try:
        yield settings, broker.accounts(Topology(settings.alliance))
    finally:
        broker.close()


def _variables(settings: ManagementSettings, client: str, password: str) -> dict[str, str]:
    """Returns the settings that a client with this account needs."""
    from fedmq_cli.deployment.given import as_account

    variables = {
        "ALLIANCE_UID": settings.alliance,
        "FEDN_CLIENT_NAME": client,
        "FEDN_AMQP_URL": as_account(settings.amqp_url.get_secret_value(), client, password),
    }
    if settings.minio_public_url is not None:
        variables["FEDN_MINIO_PUBLIC_URL"] = settings.minio_public_url
    return variables

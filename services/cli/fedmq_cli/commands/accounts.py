"""`fedmq account`: accounts at the broker, each of which permits what one client needs and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fedmq_cli.output import AsJson, print_columns, print_json, print_next, say

if TYPE_CHECKING:
    from fedmq.brokers.base import Accounts
    from fedmq.process.settings import ManagementSettings

account = typer.Typer(
    no_args_is_help=True,
    help="Make and revoke clients' accounts at RabbitMQ. FEDN_AMQP_URL's account needs the tag administrator.",
)
ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help="The client's name, which is its account's too.")]


@account.command()
def add(client: ClientName, as_json: AsJson = False) -> None:
    """Make an account, or give it a new password; print the settings that its client needs."""
    with _opened() as (settings, accounts):
        had_account = client in accounts.names()
        password = accounts.add(client)
        variables = {
            "ALLIANCE_UID": settings.alliance,
            "FEDN_CLIENT_NAME": client,
            "FEDN_AMQP_URL": _url(settings.amqp_url.get_secret_value(), client, password),
        }
        if settings.minio_public_url is not None:
            variables["FEDN_MINIO_PUBLIC_URL"] = settings.minio_public_url
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        say(f"{name}={value}")
    if had_account:
        say(
            f"\n{client} had an account: its password is replaced. A client that runs continues until its connection is "
            "lost, and then ends: start it again with these settings."
        )
    else:
        say(f"\nmade the account {client}")
    say("It publishes only as itself and reads only its own mailbox. The password is kept nowhere else.")
    print_next("fedmq doctor client, with these settings", f"fedmq account revoke {client}")


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


@account.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the clients that have an account."""
    with _opened() as (_, accounts):
        names = accounts.names()
    if as_json:
        print_json(names)
        return
    print_columns([{"client": name} for name in names], {"client": "client"}, "no client has an account of its own")
    print_next("fedmq account add CLIENT")


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


def _url(own: str, user: str, password: str) -> str:
    """Returns the operator's URL `own` with the user and password of another account."""
    scheme, _, rest = own.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{user}:{password}@{authority.rpartition('@')[2]}{slash}{path}"

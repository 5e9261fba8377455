"""`fedmq forget`: deletes what the alliance records of a client or combiner that has left for good, and its queue."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fedmq_cli.output import AsJson, Url, print_json, print_next, say

forget = typer.Typer(
    no_args_is_help=True,
    help="Forget a client or combiner that has left for good. Ledgers, models and participation keep its name.",
)
MemberName = Annotated[str, typer.Argument(metavar="NAME", help="The name of the member.", show_default=False)]


@forget.command()
def client(name: MemberName, url: Url = None, as_json: AsJson = False) -> None:
    """Delete the record and the mailbox of a client that is away. If it attaches again, it is a new client."""
    _forget("client", name, url, as_json, "fedmq clients")


@forget.command()
def combiner(name: MemberName, url: Url = None, as_json: AsJson = False) -> None:
    """Delete the record and the inbox of a combiner that is away, with the messages that nobody will read."""
    _forget("combiner", name, url, as_json, "fedmq status")


def _forget(what: Literal["client", "combiner"], name: str, url: str | None, as_json: bool, following: str) -> None:
    from fedmq_sdk import Alliance

    Alliance(url).forget(what, name)
    if as_json:
        print_json({what: name})
        return
    say(f"{what} {name} is forgotten, and its queue is deleted")
    print_next(following)

"""`fedmq forget`: deletes what is recorded of a client or combiner that has left for good, or of an ended session."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fedmq_cli.output import AsJson, Url, print_json, print_next, say

forget = typer.Typer(
    no_args_is_help=True,
    help="Forget a client or combiner that has left for good, or an ended session. Ledgers and models stay.",
)
SessionName = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.", show_default=False)]
MemberName = Annotated[str, typer.Argument(metavar="NAME", help="The name of the member.", show_default=False)]


@forget.command()
def client(name: MemberName, url: Url = None, as_json: AsJson = False) -> None:
    """Delete the record and the mailbox of a client that is away. If it attaches again, it is a new client."""
    _forget("client", name, url, as_json, "fedmq clients")


@forget.command()
def combiner(name: MemberName, url: Url = None, as_json: AsJson = False) -> None:
    """Delete the record and the inbox of a combiner that is away, with the messages that nobody will read."""
    _forget("combiner", name, url, as_json, "fedmq status")


@forget.command()
def session(name: SessionName, url: Url = None, as_json: AsJson = False) -> None:
    """Delete the record, attempts, events and updates of an ended session. Its ledger, models and name stay."""
    _forget("session", name, url, as_json, "fedmq sessions")


def _forget(
    what: Literal["client", "combiner", "session"], name: str, url: str | None, as_json: bool, following: str
) -> None:
    from fedmq_sdk import Alliance

    Alliance(url).forget(what, name)
    if as_json:
        print_json({what: name})
        return
    rest = "its ledger and models stay" if what == "session" else "its queue is deleted"
    say(f"{what} {name} is forgotten; {rest}")
    print_next(following)

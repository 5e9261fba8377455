"""`fedmq settings`: every setting, with its meaning, default and current value."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fedmq_cli.output import AsJson, print_columns, print_json, print_next, say

COLUMNS = {"name": "setting", "value": "value", "source": "from", "default": "default", "description": "meaning"}


def settings(
    role: Annotated[
        str | None,
        typer.Argument(help="reducer, combiner, client, dashboard, control (the verbs) or compose. Default: all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List settings with their value here, which the environment or .env in this folder gives, default and meaning.

    Secrets are hidden. Values are shown as they are written; `fedmq doctor ROLE` checks them.
    """
    from fedmq.process.settings import unknown_variables
    from fedmq.process.settings.current import current_settings

    rows = [asdict(each.variable) | {"value": each.value, "source": each.source} for each in current_settings(role)]
    for sentence in unknown_variables():
        say(f"fedmq: {sentence}", err=True)
    if as_json:
        print_json(rows)
        return
    print_columns(rows, COLUMNS, "there is none")
    print_next(f"fedmq doctor {role}" if role not in (None, "compose") else "fedmq doctor ROLE")

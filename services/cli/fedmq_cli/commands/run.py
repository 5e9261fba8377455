"""`fedmq run ROLE`: one process of a distributed alliance, configured by its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

SETTINGS = (
    "All variables: `fedmq settings`, or docs/reference/settings.md, the page Settings of the documentation site."
)

run = typer.Typer(
    no_args_is_help=True,
    help="Run one role until SIGTERM; it is configured by FEDN_* variables and .env in this folder.",
)


@run.command()
def reducer() -> None:
    """Coordinate the alliance. Run several: one decides, the others stand by."""
    from fedmq.process.settings import ReducerSettings
    from fedmq_reducer.app import main

    main(ReducerSettings.load())


@run.command()
def combiner() -> None:
    """Fold updates. Run as many as you like; clients that attach later are assigned to a new one."""
    from fedmq.process.settings import CombinerSettings
    from fedmq_combiner.app import main

    main(CombinerSettings.load())


@run.command()
def client(
    accounts: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to ask for this container's account, unless FEDN_AMQP_URL names one: fedmq account serve.",
        ),
    ] = None,
) -> None:
    """Train and validate on data that stays here. Only outbound connections are made."""
    from fedmq.process.settings import ClientSettings, given_variables
    from fedmq_client.app import main

    given = given_variables()
    has_account = "FEDN_AMQP_URL_FILE" in given or urlsplit(given.get("FEDN_AMQP_URL", "")).username is not None
    if accounts is None or has_account:
        main(ClientSettings.load())
        return
    from fedmq.process.logs import configure_service_logs
    from fedmq_cli.deployment.asking import ask_for_account

    configure_service_logs("info", role="client")
    account = ask_for_account(accounts)
    main(ClientSettings.load(amqp_url=account["FEDN_AMQP_URL"], client_name=account["FEDN_CLIENT_NAME"]))


@run.command()
def dashboard(
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Show the sandbox that writes, or has written, this folder; no server is needed."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: FEDN_DASHBOARD_PORT.")] = None,
) -> None:
    """Show sessions, rounds, clients and models as they happen, or a finished run."""
    from fedmq.process.settings import DashboardSettings
    from fedmq_dashboard.process import main, show_state_dir

    settings = DashboardSettings.load(dashboard_port=port)
    if state_dir is None:
        main(settings)
    else:
        show_state_dir(state_dir, settings)

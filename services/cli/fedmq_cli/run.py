"""`fedmq run ROLE`: one process of a distributed alliance, as the settings say."""

from __future__ import annotations

import typer

run = typer.Typer(
    no_args_is_help=True,
    help="Run one role until SIGTERM; it is configured by FEDN_* variables and .env in this folder.",
)


@run.command()
def reducer() -> None:
    """Coordinate the alliance. Run several: one decides, the others stand by."""
    from fedmq.settings import ReducerSettings
    from fedmq_reducer.app import main

    main(ReducerSettings.load())


@run.command()
def combiner() -> None:
    """Fold updates. Run as many as you like; a new one is given clients as they come."""
    from fedmq.settings import CombinerSettings
    from fedmq_combiner.app import main

    main(CombinerSettings.load())


@run.command()
def client() -> None:
    """Train and validate on data that stays here. Only outbound connections are made."""
    from fedmq.settings import ClientSettings
    from fedmq_client.app import main

    main(ClientSettings.load())

"""The `fedmq` command: its verbs, and how every error is reported. A verb imports its role when it runs."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fedmq.errors import FedMQError
from fedmq_cli.commands import accounts, backup, forget, members, models, packages, personal, sandbox, session, sessions
from fedmq_cli.commands.doctor import EXIT_CODES as DOCTOR_EXIT_CODES
from fedmq_cli.commands.doctor import doctor
from fedmq_cli.commands.run import SETTINGS, run
from fedmq_cli.commands.settings import settings
from fedmq_cli.interruption import end_by_interrupt, interruptible
from fedmq_cli.output import INTERRUPTED, JSON_WANTED, say

EXIT_CODES = (
    "Exit codes: 0 done; 1 a session failed or was stopped, or a package or model is faulty; 2 a wrong option, setting, "
    "file or answer; 3 verified in part; 130 interrupted (what was done is kept)."
)

EXTRAS = {
    "dash": "dashboard",
    "fastapi": "server",
    "jinja2": "server",
    "minio": "server",
    "prometheus_client": "server",
    "pymongo": "server",
    "uvicorn": "server",
}


class Verbs(TyperGroup):
    """A group of verbs that reports errors as one line on stderr and exit code 2, with --json as a document on stdout too.

    This holds for FedMQ's own errors, files that can't be opened, and missing packages, for which the line names the
    extra to install. Any other exception is a bug and passes.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs a verb, and reports its errors."""
        try:
            return super().invoke(ctx)
        except FedMQError as error:
            _fail(ctx, error.reason)
        except OSError as error:
            if not isinstance(error.filename, str | os.PathLike):
                raise
            _fail(ctx, f"{os.fspath(error.filename)}: {error.strerror}")
        except KeyboardInterrupt:
            say("fedmq: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except ModuleNotFoundError as error:
            from fedmq_client.frameworks import extra_of

            module = (error.name or "").partition(".")[0]
            extra = EXTRAS.get(module) or extra_of(module)
            if extra is None:
                raise
            _fail(ctx, f"this needs {error.name}, which is not installed: pip install 'fedmq[{extra}]'")


def _fail(ctx: Any, reason: str) -> None:
    from fedmq.process.logs import log_last_words

    if ctx.invoked_subcommand != "run" or not log_last_words(reason):  # a role's log is read by collectors
        say(f"fedmq: {reason}", err=True)
    if ctx.meta.get(JSON_WANTED):
        say(json.dumps({"error": reason}, ensure_ascii=False))
    raise typer.Exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        from fedmq import __version__

        say(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


@app.callback()
def fedmq(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Federated learning over RabbitMQ: one reducer, combiners, and clients that open only outbound connections."""


app.command(epilog=EXIT_CODES)(sandbox.sandbox)  # handles signals itself, as the roles of `run` do
for verb in (
    packages.init,
    packages.check,
    sessions.start,
    sessions.stop,
    sessions.status,
    sessions.sessions,
    models.seed,
    models.models,
    members.clients,
    members.events,
    backup.backup,
    backup.restore,
    settings,
):
    kind = members.OptionalSession if verb is members.clients else None
    app.command(cls=kind, epilog=EXIT_CODES)(interruptible(verb))
app.command(epilog=DOCTOR_EXIT_CODES)(interruptible(doctor))
for group, verbs in (
    ("session", session.session),
    ("model", models.model),
    ("personal", personal.personal),
    ("account", accounts.account),
    ("forget", forget.forget),
    ("run", run),
):
    epilog = f"{SETTINGS} {EXIT_CODES}" if verbs is run else EXIT_CODES
    for each in verbs.registered_commands:
        each.epilog = epilog
        if verbs is not run and each.callback is not None:
            each.callback = interruptible(each.callback)
    app.add_typer(verbs, name=group, epilog=epilog)


def main() -> None:
    """Runs the installed command. TensorFlow, if a trainer imports it, logs only errors unless the user sets a level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    end_by_interrupt()
    sys.exit(app())


if __name__ == "__main__":
    main()

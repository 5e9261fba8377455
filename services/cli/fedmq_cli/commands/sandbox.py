"""`fedmq sandbox`: trains a package in one process and prints the result."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from fedmq_cli.again import same_command
from fedmq_cli.commands.sandbox_opening import folder_of, last_words, opened
from fedmq_cli.interruption import calling
from fedmq_cli.output import INTERRUPTED, local_note, say, short

if TYPE_CHECKING:
    from fedmq_cli.sandbox_result import WantedFile
    from fedmq_sandbox import Sandbox


def sandbox(
    package: Annotated[Path, typer.Option(help="Folder with fedn.yaml.", show_default=False)],
    clients: Annotated[int, typer.Option(min=1, help="Clients that train, each on its part of the data.")] = 5,
    combiners: Annotated[int, typer.Option(min=1, help="Combiners that share the clients.")] = 2,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Number of rounds; each makes one model. Default: 5.")
    ] = None,
    random_seed: Annotated[
        int | None, typer.Option(help="Starts all random draws: the same gives the same model.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=VALUE,…", help="Label the clients, with these values in turn: site=north,south."
        ),
    ] = None,
    dirichlet: Annotated[float | None, typer.Option(min=1e-6, help="Label skew of the parts, smaller is more.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Part of the clients drawn for each round.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that a round may take.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the policy: train.epochs=2.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that train, shared by clients with all global names; default: one a core; 0: this one.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept, to resume or look at; default: fedmq-runs/TIME.")
    ] = None,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Keep what is stored also if the machine fails, not only the process.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result here as JSON; - for stdout.", show_default=False)
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|RUN|MODEL",
            help="First model: a file, a run's folder (its best; RUN:last, RUN:ID), or an id here. Default: the package's.",
        ),
    ] = None,
    outs: Annotated[
        list[str] | None,
        typer.Option(
            "--out", "-o", metavar="[best:]FILE", help="Write the final (or best) model here; the ending is the format."
        ),
    ] = None,
    form: Annotated[
        Literal["trainer", "commands"] | None, typer.Option(help="Form of the package to use if it has both.")
    ] = None,
    no_env: Annotated[
        bool, typer.Option("--no-env", help="Run commands in FedMQ's own environment, not in python_env.yaml's.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Train one client at a time here, without time limits: breakpoint() in a trainer opens pdb."
        ),
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Train nothing yet: serve the REST API and wait for `fedmq start`.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of the API with --serve; 0: any; default: FEDN_REDUCER_PORT, else 8090."
        ),
    ] = None,
) -> None:
    """Train a package with a whole alliance in this process; no server is needed.

    The variable FEDN_DATA_PATH names the clients' data: `{n}` in it is each client's number, from 1, and `evaluator`.

    Killed at any instant, it finishes the session when it is run again with the same --state-dir. With more --rounds, it
    trains the rest in a further session, from the last model; a server optimizer, such as fedadam, begins anew. With
    --serve it runs the sessions that curl, `fedmq start` or `Alliance` start, one after the other, until Ctrl-C.
    """
    from fedmq.errors import ConfigError
    from fedmq.policies import checked_policy, with_settings
    from fedmq_cli.sandbox_result import check_writable, wanted_file
    from fedmq_client.packages.commands import prepare
    from fedmq_client.packages.package import load
    from fedmq_sandbox import Sandbox

    given = {"rounds": rounds, "random_seed": random_seed, "timeout": timeout, "seed": seed}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if fraction is not None:
        values["clients"] = {"fraction": fraction}
    policy = with_settings(values, settings or ())
    checked_policy(policy)
    if serve and (set(values) - {"random_seed", "seed"} or settings or json_file or outs):
        raise ConfigError("--serve trains nothing by itself: give rounds and the like to `fedmq start`")
    if debug and (serve or workers):
        raise ConfigError(f"--debug trains in this process: leave out --{'serve' if serve else 'workers'}")
    if json_file is not None and not json_file.parent.is_dir() and json_file.parent != state_dir:
        raise ConfigError(f"there is no folder {json_file.parent} for {json_file.name}: make it first")
    wanted = [wanted_file(text) for text in outs or ()]
    prepare(load(package), form, not no_env)  # what is wrong with the package is known before a folder is made
    check_writable(package, wanted)
    box = Sandbox(
        package,
        policy=policy,
        clients=clients,
        combiners=combiners,
        workers=workers,
        labels=_labels(labels or ()),
        dirichlet=dirichlet,
        state_dir=state_dir,
        fsync=fsync,
        form=form,
        python_env=not no_env,
        debug=debug,
    )
    if state_dir is None:  # a folder is made once all options are checked
        box.options = replace(box.options, state_dir=_fresh_folder())
    if serve:
        _serve(box, port)
    else:
        _train(box, json_file, wanted)


def _train(box: Sandbox, json_file: Path | None, wanted: list[WantedFile]) -> None:
    from fedmq_cli.sandbox_result import outcome, print_result, say_failed, say_finished_earlier, write_model

    folder = folder_of(box)
    out = sys.stderr if json_file == Path("-") else sys.stdout
    with opened(box):
        session = box.run() if box.chain.is_over else _watched(box, out)
        result = outcome(box, session)
        if json_file is not None:
            text = json.dumps(result, indent=2)
            if json_file == Path("-"):
                print(text)
            else:
                json_file.write_text(text + "\n", encoding="utf-8")
        if session["state"] != "finished":
            say_failed(box, session)
            raise typer.Exit(1)
        if box.chain.is_over:
            say_finished_earlier(box, session, out)
        print_result(result, out)  # first: a file that can't be written does not hide it
        rounds = {each["model"]: each["round"] for each in result["rounds"]}
        for each in wanted:
            write_model(box, each, rounds.__getitem__, out)
    if result["local_tensors"]:
        note = local_note(result["local_tensors"], "client1", f" --state-dir {shlex.quote(short(str(folder)))}")
        print(f"  {note}", file=out)
    following = [_next_command(box.options.package, result["path"])]
    if find_spec("fastapi"):  # a folder is read by the code of the REST API
        following.append(shlex.join(["fedmq", "session", "show", "--state-dir", short(str(folder))]))
    print(f"\nnext: {'   or: '.join(following)}", file=out)


def _watched(box: Sandbox, out: TextIO) -> dict[str, Any]:
    """Runs an open sandbox's session, shows it meanwhile, and returns its record."""
    from fedmq_cli.awaiting import Awaiting, awaited_jobs_text, awaited_text
    from fedmq_cli.progress import SessionProgress
    from fedmq_cli.sandbox_result import (
        awaited_of,
        rounds_before,
        say_train_anew,
        say_what_goes_on,
    )
    from fedmq_cli.views import view_for
    from fedmq_sandbox import Interrupted
    from fedmq_sandbox.rounds import recorded_events

    folder, package = folder_of(box), short(str(box.options.package))
    progress = SessionProgress(box.policy.rounds)
    view = view_for(progress, out, folder, is_live=not box.options.debug, running=box.running)
    began = time.time()

    def look() -> str:
        found, running = awaited_of(box), box.running()
        if not (found or running):
            return awaited_jobs_text(box.first_jobs.look(), time.time())
        return awaited_text(found, time.time(), running, began)

    awaiting = Awaiting(look, view.remark)

    def on_event(_: Any, event: Any) -> None:
        for note in box.notes:
            progress.note(note, "init")
        if box.untested:
            progress.note(box.untested, "evaluator")
        awaiting.note(event)
        progress.feed(event)
        view.event(event)
        if event.name == "package.changed":
            say_train_anew(folder)

    box.on_event = on_event
    print(f"training {package} with {_alliance(box)}; all of it is kept in {short(str(folder))}", file=out, flush=True)
    progress.rounds_wanted, progress.rounds_before = say_what_goes_on(box, out), rounds_before(box)
    for event in recorded_events(box.records, box.session):
        progress.feed(event)
    with calling(view.__exit__):
        try:
            with view, nullcontext() if box.options.debug else awaiting:  # who debugs takes time
                return box.run()
        except (Interrupted, KeyboardInterrupt) as error:
            say("\n".join([*map(str, error.args), last_words(box)]), err=True)
            raise typer.Exit(INTERRUPTED) from None


def _serve(box: Sandbox, port: int | None) -> None:
    from fedmq.process.settings import ControlSettings
    from fedmq_cli.awaiting import Awaiting, awaited_jobs_text
    from fedmq_sandbox import Interrupted
    from fedmq_sandbox.serving import api_of

    def look() -> str:
        return "" if box.running() else awaited_jobs_text(box.first_jobs.look(), time.time())

    folder, expected = folder_of(box), ControlSettings.load().reducer_port  # where every verb looks for the API
    with opened(box), api_of(box, expected if port is None else port) as server:

        def ready() -> None:
            server.start()
            for note in box.notes:
                print(f"init: {note}")
            if box.untested:
                print(f"evaluator: {box.untested}")
            there = "" if server.url.endswith(f":{expected}") else f" --url {server.url}"
            print(
                f"{_alliance(box)} at {server.url} (this machine only); all of it is kept in {short(str(folder))}\n"
                f"next: curl {server.url}/start   or: fedmq start --follow{there}   (Ctrl-C ends it)",
                flush=True,
            )

        try:
            with Awaiting(look, say):
                box.serve(ready)
        except Interrupted:
            print(f"interrupted before it was ready; to go on: {same_command(folder)}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
    print(f"\nstopped; open sessions go on with: {same_command(folder)}", file=sys.stderr)


def _alliance(box: Sandbox) -> str:
    clients, combiners = box.options.clients, box.options.combiners
    return f"{clients} client{'s' if clients > 1 else ''}, {combiners} combiner{'s' if combiners > 1 else ''}"


def _labels(options: Iterable[str]) -> dict[str, tuple[str, ...]]:
    from fedmq.errors import ConfigError

    labels = {}
    for option in options:
        name, _, values = option.partition("=")
        labels[name] = tuple(values.split(","))
        if not name or not all(labels[name]):
            raise ConfigError(f"--label {option}: write it as NAME=VALUE or NAME=VALUE,VALUE")
    return labels


def _fresh_folder() -> Path:
    from datetime import datetime

    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = Path("fedmq-runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise typer.BadParameter("no name is left in fedmq-runs", param_hint="--state-dir")


def _next_command(package: Path, model: str) -> str:
    """Returns a command that runs the example's own evaluation if there is one, or else writes the model for numpy."""
    script = Path(os.path.abspath(package)).parent / "evaluate.py"
    if script.is_file():
        return shlex.join(["python", short(str(script)), short(model)])
    return shlex.join(["fedmq", "model", "convert", short(model), "--out", "model.npz"])

"""What `fedmq sandbox` gives back: the lines at its end, the document of `--json`, and the files of `--out`."""

from __future__ import annotations

import difflib
import hashlib
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from fedmq import __version__
from fedmq.errors import ConfigError, NotFound
from fedmq.model_files import formats
from fedmq.records.without_metrics import not_accepted, not_accepted_lines, without_metrics, without_metrics_lines
from fedmq.visible import visible
from fedmq_cli.again import command_with, fresh_folder
from fedmq_cli.output import part_of, say, short
from fedmq_cli.package_trial import network_of
from fedmq_cli.progress import TROUBLE
from fedmq_client.packages.package import load
from fedmq_reducer.web.api.open_round import open_round, open_validation
from fedmq_sandbox import Sandbox
from fedmq_sandbox.package_change import package_change
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef

BEST = "best:"


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that `--out` names, its format, and which model it is to hold."""

    which: Literal["last", "best"]
    path: Path
    form: str


def wanted_file(text: str) -> WantedFile:
    """Returns what `--out [best:]FILE` asks for. Raises ConfigError for an unknown ending, and if there is no folder."""
    path = Path(text.removeprefix(BEST))
    form = formats.form_of(path)
    if text.endswith("/") and not path.is_dir():
        raise ConfigError(f"there is no folder {path}: make it first")
    which: Literal["last", "best"] = "best" if text.startswith(BEST) else "last"
    return WantedFile(which, formats.place(path, which, form), form)


def check_writable(package: Path, wanted: Iterable[WantedFile]) -> None:
    """Raises ConfigError if a file needs the network of the package's trainer, and that makes no Keras model."""
    network = network_of(package)
    if network is not None and any(each.form == "keras" for each in wanted):
        network()


def awaited_of(box: Sandbox) -> Mapping[str, Any] | None:
    """Returns the open round of an open sandbox's session, or the validation of its last model, as the REST API does."""
    session = box.records.get(tables.SESSIONS, box.session)
    return None if session is None else open_round(box.records, session) or open_validation(box.records, session)


def write_model(box: Sandbox, wanted: WantedFile, number: Callable[[str], int], out: TextIO) -> None:
    """Writes a model of an open sandbox, and prints the file with its round, which `number` returns for the model.

    Raises NotFound if no model has the metric of the best.
    """
    model = str(box.model(wanted.which)["model"])
    found = box.read(model)
    formats.write(found.weights, wanted.path, wanted.form, meta=found.meta, network=network_of(box.options.package))
    print(f"written {short(str(wanted.path))}: the {wanted.which} model, {model} of round {number(model)}", file=out)


def say_what_goes_on(box: Sandbox, out: TextIO) -> int:
    """Returns the number of rounds of the session that is to run. Prints from which ended sessions it goes on."""
    open_record = box.records.get(tables.SESSIONS, box.session)
    if open_record is not None:
        return int(open_record["policy"]["rounds"])
    policy = box.chain.policy_of(box.session, box.records)
    before = box.chain.sessions[: box.chain.sessions.index(box.session)]
    if before:
        optimizer = "" if policy.strategy.name == "fedavg" else ", and the server optimizer begins anew"
        kept = "; what clients keep begins anew without --set personal=continue" if policy.personal == "fresh" else ""
        print(
            f"{policy.rounds} more round{'s' if policy.rounds > 1 else ''}, in a session of "
            f"{'their' if policy.rounds > 1 else 'its'} own from the last model {policy.seed}\n"
            f"  `task.round` begins at 1 again{optimizer}{kept}",
            file=out,
            flush=True,
        )
    return policy.rounds


def say_failed(box: Sandbox, session: Mapping[str, Any]) -> None:
    """Prints why the session has not finished; of one that ended in an earlier run also the commands that train again."""
    name, state, reason = session["session"], session["state"], visible(session["reason"])
    if not box.chain.is_over:
        say(f"fedmq: session {name} {state}: {reason}", err=True)
        return
    folder = _folder(box)
    say(f"fedmq: session {name} of {folder} {state} in an earlier run, and is not run again: {reason}", err=True)
    say_train_anew(folder)
    is_option = not any("rounds=" in word and not word.startswith("--rounds=") for word in sys.argv)
    if is_option and any(box.rounds()):
        more = command_with("--rounds", str(box.chain.totals[-1] + 1))
        say(f"to go on here from its last model: {more}", err=True)


def say_finished_earlier(box: Sandbox, session: Mapping[str, Any], out: TextIO) -> None:
    """Prints that nothing was trained now. If the package has changed since, prints both hashes and how to train it."""
    folder = _folder(box)
    say(f"session {session['session']} of {folder} finished in an earlier run: nothing was trained now", file=out)
    change = package_change(box.records, load(box.options.package).sha256)
    if change is not None:
        say(f"fedmq: warning: {change}: the result below is of the package as it was then", err=True)
        say_train_anew(folder)


def say_train_anew(folder: Path) -> None:
    """Prints the command that trains in a folder of its own."""
    anew = command_with("--state-dir", str(fresh_folder(Path(short(str(folder))))))
    say(f"to train with the package as it is now: {anew}", err=True)


def _folder(box: Sandbox) -> Path:
    assert box.options.state_dir is not None
    return Path(short(str(box.options.state_dir)))


def rounds_before(box: Sandbox) -> int:
    """Returns the number of rounds of the sessions before the one that is to run."""
    before = box.chain.sessions[: box.chain.sessions.index(box.session)]
    return sum((box.records.get(tables.SESSIONS, name) or {}).get("round") or 0 for name in before)


def print_result(result: dict[str, Any], out: TextIO) -> None:
    """Prints the final model, its metrics, and the best model of all rounds: the one before round 1 does not compete."""
    print(f"\nfinal model {result['final_model']}\n  {short(result['path'])}", file=out)
    if result["reason"]:
        say(f"  ended early: {visible(result['reason'])}", file=out)
    for name, value in sorted(result["metrics"].items()):
        part = _part(result, name)
        of = "" if name.startswith("test/") else f" (clients' own data{', ' if part else ''}{part})"
        say(f"  {visible(name)} {value:.6g}{of}", file=out)
    for name, value in sorted(result["training"].items()):
        part = _part(result, f"training/{name}")
        say(f"  training/{visible(name)} {value:.6g}{f' ({part})' if part else ''}", file=out)
    outcomes = _outcomes(result["rounds"])
    if outcomes:
        say(f"  updates of all rounds: {outcomes}", file=out)
    for line in (*not_accepted_lines(result["not_accepted"]), *without_metrics_lines(result["without_metrics"])):
        say(f"  {visible(line)}", file=out)
    best = result["best"]
    if best is not None:
        same = "the same" if best["model"] == result["final_model"] else best["model"]
        last = result["rounds"][-1]["round"]
        among = f"of rounds 1 to {last}" if last > 1 else "of round 1 alone"
        value = f"{best['mode']} {best['metric']} {best['value']:.6g}"
        say(f"best model {same}: round {best['round']}, {value} ({among})", file=out)
    elif result["metrics"]:
        wanted, there = result["policy"]["select"]["metric"], sorted(result["metrics"])
        near = difflib.get_close_matches(wanted or "", there, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        say(
            visible(f"no best model: no model has select.metric {wanted!r}; {hint}there are {', '.join(there)}"),
            file=out,
        )


def _part(result: dict[str, Any], name: str) -> str:
    """Returns `3 of 4` if a mean is of fewer values than the last round asked clients, else nothing."""
    return part_of(result["values"][name], result["rounds"][-1]["asked"])


def _outcomes(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Returns how the updates of all rounds ended, `4 of 6 accepted, 2 failed`; nothing if all were accepted."""
    counts = {word: sum(each.get(word, 0) for each in rounds) for word in ("asked", "accepted", *TROUBLE)}
    trouble = [f"{counts[word]} {word}" for word in TROUBLE if counts[word]]
    return ", ".join([f"{counts['accepted']} of {counts['asked']} accepted", *trouble]) if trouble else ""


def _best(box: Sandbox) -> dict[str, Any] | None:
    """Returns the best model of the chain, None if no model has a metric. `round` counts through the sessions."""
    try:
        found = box.model("best")
    except NotFound:
        return None
    number = next((each.number for each in box.rounds() if each.model == found["model"]), found["round"])
    return {"model": found["model"], "round": number, **found["best"]}


def _start(box: Sandbox) -> dict[str, Any] | None:
    """Returns the model that the chain started from, with its metrics; None if the session has not begun."""
    session = box.records.get(tables.SESSIONS, box.chain.sessions[0])
    if session is None or session["seed"] is None:
        return None
    summary = box.records.get(tables.SUMMARIES, f"{session['session']}/{session['seed']}") or {"metrics": {}}
    return {"model": session["seed"], "metrics": {name: each["mean"] for name, each in summary["metrics"].items()}}


def outcome(box: Sandbox, session: dict[str, Any]) -> dict[str, Any]:
    """Returns what `--json` writes. Metrics are means over clients; those of the evaluator begin with `test/`.

    `training` holds the means that the trainers reported with the updates of a round, at the top those of the last round.
    `values` holds the number of values in each of these means. `asked` is the number of clients that a round asked.
    `not_accepted` counts the updates of the last session, with the reasons why some were not accepted, and
    `without_metrics` its validations, with the reasons why some have no metrics.
    `start` is the model before the first round. `rounds` are those of all sessions of the chain of sessions.
    """
    committed = list(box.rounds())
    rounds = [
        {
            "round": each.number,
            "session": each.session,
            "model": each.model,
            "accuracy": each.metrics.get("test/accuracy"),
            "metrics": each.metrics,
            "training": each.training,
            "values": each.values,
            "seconds": each.seconds,
            "asked": sum(each.counts.values()),
            **each.counts,
        }
        for each in committed
    ]
    last = box.model() if rounds else None
    path = _final_file(box, last) if last else None
    summaries = last["metrics"] if last else {}
    metrics = {name: summary["mean"] for name, summary in summaries.items()}
    values = committed[-1].values if committed else {}
    return {
        "session": session["session"],
        "state": session["state"],
        "reason": session["reason"],
        "final_model": last["model"] if last else None,
        "path": str(path) if path else None,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if path else None,
        "accuracy": metrics.get("test/accuracy"),
        "metrics": metrics,
        "local_tensors": list(box.policy.tensors.local),
        "training": committed[-1].training if committed else {},
        "values": values | {name: int(summary["n"]) for name, summary in summaries.items()},
        "not_accepted": not_accepted(box.records, session["session"]),
        "without_metrics": without_metrics(box.records, session["session"]),
        "best": _best(box),
        "start": _start(box),
        "policy": session["policy"],
        "versions": {"fedmq": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "rounds": rounds,
    }


def _final_file(box: Sandbox, model: dict[str, Any]) -> Path:
    assert box.options.state_dir is not None
    path = box.options.state_dir / f"{model['model']}.safetensors"
    if model["base"] is None:
        return box.blobs.fetch(BlobRef.model_validate(model["ref"]), path)
    whole = box.read(model["model"])
    formats.write(whole.weights, path, "safetensors", meta=whole.meta)
    return path

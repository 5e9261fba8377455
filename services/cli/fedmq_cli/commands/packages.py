"""Verbs on packages: init, check."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fedmq_cli.output import AsJson, print_json, print_next, say, shown

FEW = 10
"""Number of tensors that `check` lists without `--tensors`."""


def init(
    name: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    framework: Annotated[
        str, typer.Option(help="numpy, keras, torch, sklearn, command (any language), or one that you have installed.")
    ] = "numpy",
    as_json: AsJson = False,
) -> None:
    """Write a compute package that runs, to put your own model and data into."""
    from fedmq_cli.package_trial import make_package

    package = make_package(name, framework)
    files = sorted(path.name for path in package.iterdir())
    if as_json:
        print_json({"package": str(package), "files": files})
        return
    say(f"{package}: {', '.join(files)}")
    print_next(f"fedmq check {package}", f"fedmq sandbox --package {package}")


def check(
    package: Annotated[Path, typer.Argument(help="Folder with fedn.yaml.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="The client's data; default: FEDN_DATA_PATH. {n} is 1.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model to begin with; default: the package makes one.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Parts that common data is cut into; the first is used.")] = 5,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="The trainer's configuration: train.epochs=2."),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List all tensors of the model, not only ten.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try a package as an alliance would: validate once, train twice, and check the update as a combiner would.

    The line `evaluator` says whether an evaluator of this package would score models: only if the package states a test set.

    Exit code 1 if one of these steps fails.
    """
    from fedmq.policies import with_settings
    from fedmq_cli.package_trial import client_here, try_package
    from fedmq_client.job.load_trainer import model_file
    from fedmq_client.packages.package import load

    client = client_here("check", data=data, count=clients)
    seed = model_file(model, load(package)).blob() if model is not None else None
    values = with_settings({}, settings or ())
    if isinstance(values.get("train"), dict):  # as a policy names the keys; `epochs=2` is taken too
        values |= values.pop("train")
    trial = try_package(package, client, values, seed)
    if as_json:
        print_json(asdict(trial))
    else:
        _print_trial(trial, None if tensors else FEW)
        if not trial.problem:
            named = shlex.quote(str(package))
            if model is None:
                print_next(f"fedmq sandbox --package {named}", f"fedmq seed --package {named}")
            else:
                print_next(f"fedmq sandbox --package {named} --seed {shlex.quote(str(model))}")
    if trial.problem:
        say(f"fedmq: {trial.problem}\n{trial.traceback}".rstrip(), err=True)
        raise typer.Exit(1)


def _print_trial(trial: Any, most: int | None) -> None:
    from fedmq.tensors import TensorRole

    say(f"package   {trial.sha256}")
    say(f"model     {trial.tensors} tensors, {trial.size} bytes")
    roles = Counter(tensor["role"] for tensor in trial.tensor_list)
    say(f"roles     {', '.join(f'{roles[role]} {role}' for role in TensorRole if roles[role])}")
    width = max((len(tensor["name"]) for tensor in trial.tensor_list[:most]), default=0)
    for tensor in trial.tensor_list[:most]:
        say(f"tensor    {tensor['name']:{width}}  {tensor['role']:9}  {tensor['dtype']} {tensor['shape']}")
    if most is not None and trial.tensors > most:
        say(f"tensor    and {trial.tensors - most} more, which --tensors lists")
    if trial.validated is not None:
        say(f"validate  {_said(trial.validated)}, {trial.seconds.get('validate', 0.0):.2f} s")
    elif trial.trained:
        say(f"validate  {trial.unvalidated}")
    if trial.evaluator:
        say(f"evaluator has no score: {trial.evaluator}")
    elif trial.test_set:
        say("evaluator scores each model: the package states a test set")
    if trial.trained:
        say(f"train     {_said(trial.trained)}, {trial.seconds.get('train', 0.0):.2f} s")
        say(f"state     {trial.state} arrays are kept from round to round")
    if trial.deterministic is not None:
        same = (
            "the same bytes twice" if trial.deterministic else "other bytes each time: runs can't be repeated exactly"
        )
        say(f"repeated  {same}")
    if trial.norm is not None:
        say(f"combiner  accepts the update, its norm is {trial.norm:.6g}")
    for note in trial.notes:
        say(f"note      {note}")


def _said(metrics: dict[str, Any]) -> str:
    return ", ".join("unweighted" if value is None else f"{name} {shown(value)}" for name, value in metrics.items())

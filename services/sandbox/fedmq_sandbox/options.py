"""The options of a sandbox: checked and complete."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from fedmq.errors import ConfigError
from fedmq.policies import checked_policy
from fedmq_client.packages.commands import DATA_EACH
from fedmq_client.packages.package import load
from fedmq_client.role.actor import OUTPUT_LOG
from fedmq_client.trainer import NUMBER, Client, Form, with_own_data
from fedmq_reducer.members.eligibility import ineligible_because
from fedmq_schemas.limits import LONGEST_LABEL, MOST_LABELS, check_key, check_text
from fedmq_schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What `Sandbox` was given; `Sandbox` describes each option. Raises ConfigError for a value out of range.

    Its folders become absolute: a trainer may change the process's current folder.
    """

    package: Path
    clients: int
    combiners: int
    workers: int
    labels: Mapping[str, Sequence[str]]
    dirichlet: float | None
    state_dir: Path | None
    fsync: bool
    evaluator: bool
    alliance: str
    device: str
    form: Form | None
    python_env: bool
    debug: bool

    def __post_init__(self) -> None:
        if isinstance(self.clients, Mapping):
            raise ConfigError(
                "clients is a number here: give the policy's section of this name as policy={'clients': {…}}"
            )
        for name, least in (("clients", 1), ("combiners", 1), ("workers", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} must be an integer of at least {least} (not {value!r})")
        if self.debug and self.workers:
            raise ConfigError("debug trains in this process: leave workers out")
        if self.dirichlet is not None and not (_is_number(self.dirichlet) and 0 < self.dirichlet < math.inf):
            raise ConfigError(f"dirichlet must be a number greater than 0 (not {self.dirichlet!r})")
        if not isinstance(self.alliance, str):
            raise ConfigError(f"alliance must be a name (not {self.alliance!r})")
        if self.form not in (None, *get_args(Form)):
            raise ConfigError(f"form must be one of {', '.join(get_args(Form))}, or None to choose (not {self.form!r})")
        if not isinstance(self.labels, Mapping):
            raise ConfigError(f"labels must be a mapping, such as {{'site': ['north', 'south']}} (not {self.labels!r})")
        for name, values in self.labels.items():
            if not (isinstance(values, list | tuple) and values and all(isinstance(value, str) for value in values)):
                raise ConfigError(f"the label {name!r} needs a list of values, such as ['north', 'south']")
        _check_labels(self.labels)
        for name in ("package", "state_dir"):
            if (folder := getattr(self, name)) is not None:
                object.__setattr__(self, name, folder.expanduser().absolute())

    def client(self, name: str, tasks: tuple[str, ...], ordinal: int, random_seed: int) -> Client:
        """Returns the client as its trainer sees it. Clients that train have the values of each label in turn.

        Its data are what `FEDN_DATA_PATH` names, with the client's number in place of `{n}`.
        """
        labels = {label: values[ordinal % len(values)] for label, values in self.labels.items()}
        client = Client(
            name=name,
            data=data_path(),
            ordinal=ordinal,
            count=self.clients,
            device=self.device,
            state_dir=(self.state_dir or Path.cwd()) / "clients" / name,
            tasks=tasks,
            random_seed=random_seed,
            dirichlet=self.dirichlet,
            labels=labels if "train" in tasks else {},
            form=self.form,
            python_env=self.python_env,
        )
        return with_own_data(client)

    def output_log(self, name: str) -> Path | None:
        """Returns the file for what a client's trainer prints in a worker process; None if nothing is to be written."""
        return None if self.state_dir is None else self.state_dir / "clients" / name / OUTPUT_LOG


def data_path() -> Path | None:
    """Returns the absolute path that `FEDN_DATA_PATH` names in this process; None if it is not set, or a URL."""
    text = os.environ.get("FEDN_DATA_PATH", "")
    return Path(text).expanduser().absolute() if text and "://" not in text else None


def shared_data(options: SandboxOptions) -> tuple[str, ...]:
    """Returns a note if all clients have the same file or folder, or a trainer gets none."""
    path = os.environ.get("FEDN_DATA_PATH", "")
    if "://" in path and not load(options.package).runs_commands(options.form):
        return (f"client.data is None, as FEDN_DATA_PATH is a URL, {path}: a trainer reads it from os.environ",)
    if not path or NUMBER in path or options.clients < 2:
        return ()
    return (f"all clients have one FEDN_DATA_PATH, {path}; for one each: {DATA_EACH}",)


def check_enough_clients(options: SandboxOptions, policy: Policy) -> None:
    """Raises ConfigError if the policy requires more clients than this sandbox has: nobody else could start them."""
    left_out = _left_out(options, policy)
    able = options.clients - len(left_out)
    if able >= policy.clients_required:
        return
    if not left_out:
        raise ConfigError(
            f"clients_required is {policy.clients_required}, and this sandbox has {options.clients} clients: no round could "
            f"begin. Give it {policy.clients_required} with --clients (clients=), or require fewer"
        )
    name, reason = next(iter(left_out.items()))
    raise ConfigError(
        f"clients_required is {policy.clients_required}, and the policy lets {able} of this sandbox's {options.clients} "
        f"clients take part: no round could begin. {name}: {reason}. Label the clients with --label NAME=VALUE (labels=), "
        "or change clients.where or clients.exclude"
    )


def scorers_of(options: SandboxOptions, policy: Policy) -> tuple[int | None, bool]:
    """Returns how many clients validate each model in tasks of their own, and whether an evaluator does.

    The number is None if the clients of the next round validate it.
    """
    if policy.validation == "with_training":
        return None, options.evaluator
    able = options.clients - len(_left_out(options, policy))
    return 0 if policy.validation == "none" else able, options.evaluator


def _left_out(options: SandboxOptions, policy: Policy) -> dict[str, str]:
    """Returns the clients that the policy lets take no part, each with the reason."""
    why = {}
    for ordinal in range(options.clients):
        client = options.client(f"client{ordinal + 1}", ("train", "validate"), ordinal, 0)
        why[client.name] = ineligible_because(policy, client.name, client.labels, policy.package, True)
    return {name: reason for name, reason in why.items() if reason}


def policy_of(policy: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Policy:
    """Returns the policy with the keywords set in it. Raises ConfigError for an unknown keyword and a wrong policy."""
    _check_names(fields)
    if policy is not None and not isinstance(policy, Mapping):
        raise ConfigError(
            "policy must be a mapping with the keys of a session file, such as {'rounds': 5}; "
            f"read a session file with tomllib (not {policy!r})"
        )
    return checked_policy({**(policy or {}), **fields})


def _check_names(names: Iterable[str]) -> None:
    """Raises ConfigError for a keyword that is neither an option nor a key of the policy, and names the nearest one."""
    known = {field.name for field in fields(SandboxOptions)} | Policy.model_fields.keys()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{name!r} is neither an option of Sandbox nor a key of the policy: {hint}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_labels(labels: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError if a client could not send these labels."""
    if len(labels) > MOST_LABELS:
        raise ConfigError(f"there are {len(labels)} labels: a client has at most {MOST_LABELS}")
    for name, values in labels.items():
        try:
            check_key(name)
            for value in values:
                check_text(value, LONGEST_LABEL)
        except ValueError as error:
            raise ConfigError(f"the label {name!r:.60} can't be sent: {error}") from error

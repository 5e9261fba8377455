"""The sessions of a state folder: the first one, and those that train further rounds from its last model."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fedmq.errors import ConfigError, NotFound
from fedmq.policies import checked_policy
from fedmq.process.lock import FOLDER_LOCK, LOOK_AGAIN, try_lock
from fedmq.records.base import Records
from fedmq_sandbox.options import SandboxOptions, data_path
from fedmq_sandbox.rounds import model_of
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy

FILE = "sandbox.json"
_OPTIONS = {
    "rounds": "--rounds",
    "random_seed": "--random-seed",
    "timeout": "--timeout",
    "seed": "--seed",
    "clients.fraction": "--fraction",
}
"""The options of `fedmq sandbox` that stand for keys of the policy."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What a sandbox is to train: sessions, each from the last model of the one before, up to a total number of rounds.

    `policy` has the last total as its rounds, and the random seed of the first session. `totals`: the number of rounds that
    was asked for after each session, which may end earlier. `is_over`: whether all had ended when the folder was opened.
    """

    policy: Policy
    random_seed: int
    sessions: tuple[str, ...]
    totals: tuple[int, ...]
    is_over: bool

    def open_session(self, records: Records) -> str:
        """Returns the first session that has not ended, or the last one if all have."""
        return next((name for name in self.sessions if _ended(records, name) is None), self.sessions[-1])

    def policy_of(self, session: str, records: Records) -> Policy:
        """Returns the policy that this session starts with. Those before it must have ended.

        The rounds of a later session are those that are left, and its schedule and random draws are those of the rounds
        that follow, not of the first ones again.
        """
        number = self.sessions.index(session)
        if number == 0:
            return self.policy.model_copy(update={"rounds": self.totals[0]})
        ended = [_ended(records, name) or {} for name in self.sessions[:number]]
        done = sum(document.get("round") or 0 for document in ended)
        text = f"{self.random_seed}/{number}"
        changed: dict[str, Any] = {
            "rounds": self.totals[number] - done,
            "random_seed": int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1,
            "schedule": {name: _later(steps, done) for name, steps in self.policy.schedule.items()},
        }
        model = ended[-1].get("model")
        return self.policy.model_copy(update=changed | ({"seed": model} if model else {}))


def _later(steps: Mapping[str, Any], done: int) -> dict[str, Any]:
    """Returns the steps of a schedule as counted after `done` rounds. The newest one of these holds on from round 1."""
    begun = [int(first) for first in steps if int(first) <= done + 1]
    later = {str(int(first) - done): value for first, value in steps.items() if int(first) > done + 1}
    return ({"1": steps[str(max(begun))]} if begun else {}) | later


def _ended(records: Records, session: str) -> dict[str, Any] | None:
    document = records.get(tables.SESSIONS, session)
    return document if document is not None and document["state"] in tables.ENDED else None


def chain_of(options: SandboxOptions, policy: Policy, records: Records) -> Chain:
    """Returns the chain of the state folder, the same one whenever it is opened; more rounds add a session.

    A policy in which nothing is set stands for the folder's own. Raises ConfigError if the folder holds a session with
    other options, and names them.
    """
    random_seed = policy.random_seed if policy.random_seed is not None else secrets.randbits(31)
    path = None if options.state_dir is None else options.state_dir / FILE
    if path is None or not path.exists():
        first, totals = f"s{secrets.token_hex(4)}", [policy.rounds]
    else:
        kept = json.loads(path.read_text())
        first, random_seed = kept["session"], kept["random_seed"]
        before = checked_policy({**kept["asked"]["policy"], "random_seed": random_seed})
        totals = kept.get("totals", [before.rounds])
        if policy.model_fields_set <= {"random_seed", "seed"}:
            policy = before.model_copy(update={"seed": policy.seed or before.seed, "random_seed": policy.random_seed})
            policy = policy.model_copy(update={"rounds": totals[-1]})
        if "rounds" not in policy.model_fields_set:
            policy = policy.model_copy(update={"rounds": totals[-1]})
        _check_same(options, kept["asked"], before, policy, totals[-1], _remedy(options, first, records))
        if policy.rounds > totals[-1]:
            totals = [*totals, policy.rounds] if records.get(tables.SESSIONS, first) else [policy.rounds]
    policy = policy.model_copy(update={"random_seed": random_seed})
    if path is not None:
        _write(path, first, random_seed, options, policy, totals)
    names = tuple(_name(first, number) for number in range(len(totals)))
    is_over = all(_ended(records, name) is not None for name in names)
    return Chain(policy, random_seed, names, tuple(totals), is_over)


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """One sandbox at a time in a state directory. The lock goes with the process."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"the state_dir {state_dir} is a file: name a folder") from None
    with (state_dir / FOLDER_LOCK).open("a") as file:
        if not try_lock(file) and not _try_again(file):
            raise ConfigError(f"another sandbox is running in {state_dir}")
        yield


def _try_again(file: IO[Any]) -> bool:
    """Locks the file although a reader's look at the lock (`is_locked`) held it for an instant."""
    time.sleep(LOOK_AGAIN)
    return try_lock(file)


def recorded_sessions(folder: Path, records: Records) -> list[str]:
    """Returns the sessions of the chain that a folder's records hold, or else the newest session that is there."""
    found = [name for name in chain_sessions(kept_options(folder)) if records.get(tables.SESSIONS, name)]
    newest = records.find(tables.SESSIONS, order="created_at", descending=True, limit=1)
    return found or [each["session"] for each in newest]


def kept_options(folder: Path) -> dict[str, Any]:
    """Returns what a folder keeps of the options of its runs; nothing if it is no folder of a sandbox."""
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def chain_sessions(kept: Mapping[str, Any]) -> list[str]:
    """Returns the names of the sessions of the chain that a folder keeps, also of those that have not begun."""
    return [_name(kept["session"], number) for number in range(len(kept.get("totals", [0])))] if kept else []


def _name(first: str, number: int) -> str:
    return first if number == 0 else f"s{hashlib.sha256(f'{first}/{number}'.encode()).hexdigest()[:8]}"


def _write(
    path: Path, first: str, random_seed: int, options: SandboxOptions, policy: Policy, totals: list[int]
) -> None:
    asked = _asked(options, policy)
    replacement = path.with_suffix(".new")
    used = {
        "package": str(options.package),
        "labels": {name: list(values) for name, values in options.labels.items()},
        "form": options.form,
        "python_env": options.python_env,
    }
    kept = {"session": first, "random_seed": random_seed, "asked": asked, "totals": totals, "used": used}
    replacement.write_text(json.dumps(kept))
    os.replace(replacement, path)


def _asked(options: SandboxOptions, policy: Policy) -> dict[str, Any]:
    return {
        "clients": options.clients,
        "dirichlet": options.dirichlet,
        "data": _data(),
        "policy": policy.model_dump(mode="json", exclude={"random_seed"}),
    }


def _data() -> str | None:
    path = data_path()
    return None if path is None else str(path)


def _remedy(options: SandboxOptions, first: str, records: Records) -> str:
    """Returns what to do if the folder has other options: what can't be resumed, or has made no model, is not offered."""
    folder, found = options.state_dir, _ended(records, first)
    resume = "" if found is not None and found["state"] == "failed" else "the same ones to resume it, or "
    for which in ("best", "last"):  # the best one is that of a metric, which need not be there
        with suppress(NotFound):
            model_of(records, [first], which, None, None)
            seed = folder if which == "best" else f"{folder}:{which}"
            return f"Give {resume}--seed {seed} and another --state-dir to begin from its {which} model"
    return f"Give {resume}another --state-dir"


def _check_same(
    options: SandboxOptions, kept: Mapping[str, Any], before: Policy, policy: Policy, total: int, remedy: str
) -> None:
    """Raises ConfigError that names each option of which the folder has another value, and the remedy.

    Rounds may grow. Their session may continue from what clients keep, though the one before did not.
    """
    known = {**_flat(before.model_dump(mode="json")), "rounds": total}
    there = {_option(name): value for name, value in known.items()}
    here = {_option(name): value for name, value in _flat(policy.model_dump(mode="json")).items()}
    if policy.rounds > total:
        here["--rounds"] = total
        for values in (there, here):
            values.pop("--set personal", None)
    if policy.random_seed is None:
        del there["--random-seed"], here["--random-seed"]
    there |= {"--clients": kept["clients"], "--dirichlet": kept["dirichlet"]}
    here |= {"--clients": options.clients, "--dirichlet": options.dirichlet}
    if "data" in kept:  # not in a folder of an earlier version
        there["FEDN_DATA_PATH"], here["FEDN_DATA_PATH"] = kept["data"], _data()
    differing = [
        f"{name} differs: {_shown(there.get(name))} there, {_shown(here.get(name))} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise ConfigError(f"{options.state_dir} holds a session with other options: {'; '.join(differing)}. {remedy}")


def _option(name: str) -> str:
    return _OPTIONS.get(name, f"--set {name}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(values, ""))


def _leaves(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _shown(value: Any) -> str:
    return "unset" if value is None else json.dumps(value) if not isinstance(value, str) else value

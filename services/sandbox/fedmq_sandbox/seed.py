"""What a session begins with: its id and random seed, and a first model that the package's trainer makes."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import secrets
import threading
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.errors import ConfigError
from fedmq_client.job.job import Job, Pool, Result
from fedmq_sandbox.options import SandboxOptions
from fedmq_schemas import keys
from fedmq_schemas.policy import Policy

EVALUATOR = "evaluator"
INIT_TIMEOUT = 600.0
LOOK_AGAIN = 0.1


class Interrupted(Exception):
    """`Sandbox.interrupt` was called before the session ended. A sandbox with the same `state_dir` resumes it."""


def identity_of(options: SandboxOptions, policy: Policy) -> tuple[str, int]:
    """Returns the session's id and random seed, the same ones whenever the state directory is opened.

    Raises ConfigError if the directory holds a session with other options.
    """
    random_seed = policy.random_seed if policy.random_seed is not None else secrets.randbits(31)
    chosen: dict[str, Any] = {"session": f"s{secrets.token_hex(4)}", "random_seed": random_seed}
    if options.state_dir is None:
        return chosen["session"], chosen["random_seed"]
    path = options.state_dir / "sandbox.json"
    asked = {
        "clients": options.clients,
        "dirichlet": options.dirichlet,
        "policy": policy.model_dump(mode="json", exclude={"random_seed"}),
    }
    if path.exists():
        chosen = json.loads(path.read_text())
        if chosen["asked"] != asked or policy.random_seed not in (None, chosen["random_seed"]):
            raise ConfigError(
                f"{options.state_dir} holds a session with other options: give the same ones to resume it, "
                "or another --state-dir"
            )
    else:
        replacement = path.with_suffix(".new")
        replacement.write_text(json.dumps({**chosen, "asked": asked}))
        os.replace(replacement, path)
    return chosen["session"], chosen["random_seed"]


def make_seed(
    options: SandboxOptions, policy: Policy, random_seed: int, pool: Pool, blobs: Blobs, interrupted: threading.Event
) -> str:
    """Stores the model that the trainer's `init` makes, and returns its id.

    Raises ConfigError with the traceback if `init` made no model, and Interrupted.
    """
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    job = Job(
        id="init",
        client=options.client("init", ("train", "validate"), 0, random_seed),
        package=options.package,
        kind="init",
        config=policy.train,
        timeout=INIT_TIMEOUT,
        random_seed=random_seed,
    )
    pool.submit(job, lambda _: None, lambda *_: None, results.put)
    result = _first(results, interrupted)
    if result.outcome != "done" or result.update is None:
        raise ConfigError(f"{result.reason}\n{result.traceback}".rstrip())
    data = result.update if isinstance(result.update, bytes) else result.update.read_bytes()
    name = keys.seed_model(hashlib.sha256(data).hexdigest())
    blobs.put(keys.model_blob(name), data)
    return name


def begin(
    options: SandboxOptions,
    random_seed: int,
    pool: Pool,
    policy: Policy,
    blobs: Blobs,
    interrupted: threading.Event,
    is_seed_missing: bool,
) -> tuple[str | None, str]:
    """Returns the id of the first model, and why the evaluator gives no score.

    The first model is the policy's, or one that the package's trainer makes; None unless `is_seed_missing`. The text, with
    its remedy, is empty if the evaluator scores, if there is none, or if that is not known. Raises as `make_seed` does.
    """
    answers: queue.SimpleQueue[Result] = queue.SimpleQueue()
    if options.evaluator:  # asked first: while one worker makes the model, another one answers
        client = options.client(EVALUATOR, ("validate",), 0, random_seed)
        job = Job(id="describe", client=client, package=options.package, kind="describe", timeout=INIT_TIMEOUT)
        pool.submit(job, lambda _: None, lambda *_: None, answers.put)
    seed = None
    if is_seed_missing:
        made = policy.seed is None
        seed = make_seed(options, policy, random_seed, pool, blobs, interrupted) if made else policy.seed
    if not options.evaluator:
        return seed, ""
    answer = _first(answers, interrupted)
    return seed, answer.reason if answer.outcome == "done" else ""


def _first(results: queue.SimpleQueue[Result], interrupted: threading.Event) -> Result:
    while not interrupted.is_set():
        try:
            return results.get(timeout=LOOK_AGAIN)
        except queue.Empty:
            continue
    raise Interrupted

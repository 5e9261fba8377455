"""Training as a pure function, the pool that lets it take virtual time, and the arithmetic that a whole session must
come to. The arithmetic knows nothing of messages: it is what the alliance is held against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fedmq import aggregation, tensors
from fedmq.aggregation import Accumulator
from fedmq.tensors.tensorblob import Source, Weights
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result, Validated
from fedmq_combiner.documents import task_seed
from fedmq_schemas.policy import Policy, weight_of
from support.world import Process

Behaviour = str
"""What a trainer does in a round: train, abstain, fail, or nan (it returns a number that is none)."""

META = {"roles": {"spread": "statistic"}}


def seed_model() -> bytes:
    weights: Weights = {
        "count": np.array([7], np.int64),
        "layer": np.array([0.5, -0.25, 2.0, 0.0], np.float32),
        "spread": np.array([1.0, 3.0], np.float32),
    }
    return tensors.encode(weights, META)


def train(model: bytes, client: str, seed: int, mood: Behaviour = "train") -> bytes:
    """The update of a client: it depends on the model, the client and the task's seed, and on nothing else."""
    weights, meta = tensors.decode(model)
    digest = hashlib.sha256(f"{client}/{seed}".encode()).digest()
    noise = np.frombuffer(digest[:7], np.int8).astype(np.float32) / 64
    new = {
        "count": weights["count"] + 1 + digest[8] % 3,
        "layer": weights["layer"] * np.float32(0.75) + noise[:4],
        "spread": weights["spread"] * np.float32(0.5) + np.abs(noise[4:6]),
    }
    if mood == "nan":
        new["layer"] = new["layer"] * np.float32("nan")
    return tensors.encode(tensors.delta(new, weights), meta)


@dataclass(slots=True)
class VirtualPool:
    """Runs the jobs of one client process, each for its time; the process's death ends them."""

    process: Process
    seconds: Callable[[int], float]
    examples: int
    mood: Callable[[int], Behaviour]

    _cancelled: set[str] | None = None

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        assert isinstance(job.model, bytes)
        model = job.model

        def half_way() -> None:
            if job.id not in self._gone():
                on_progress(job.id, 0.5, {}, "")

        def done() -> None:
            on_done(self._result(job, model))

        if job.validate:
            metrics = _metrics(model)
            self.process.post(lambda: on_validation(Validated(job.id, self.examples, metrics, 0.0)))
        seconds = self.seconds(job.round)
        self.process.later(seconds / 2, half_way)
        self.process.later(seconds, done)

    def _gone(self) -> set[str]:
        if self._cancelled is None:
            self._cancelled = set()
        return self._cancelled

    def _result(self, job: Job, model: bytes) -> Result:
        if job.id in self._gone():
            return Result(job.id, "cancelled")
        if job.kind == "validate":
            return Result(job.id, "done", self.examples, _metrics(model))
        mood = self.mood(job.round)
        if mood == "abstain":
            return Result(job.id, "abstained", reason="nothing to give")
        if mood == "fail":
            return Result(job.id, "failed", reason="a trainer's own error")
        update = train(model, job.client.name, job.random_seed, mood)
        return Result(job.id, "done", self.examples, {"loss": 1.0 / job.round}, update)

    def cancel(self, job_id: str) -> None:
        self._gone().add(job_id)

    def locate(self, job_id: str) -> None:
        pass

    def close(self, timeout: float = 10.0) -> None:
        pass


def _metrics(model: bytes) -> dict[str, float]:
    return {"accuracy": hashlib.sha256(model).digest()[0] / 256}


@dataclass(frozen=True, slots=True)
class Step:
    """One round's arithmetic: the new model and server optimizer's state, and the exponents of the next round."""

    model: bytes
    state: dict[str, np.ndarray] | None
    exponents: Mapping[str, int]


def first_exponents(model: bytes, announced: tuple[int, ...]) -> Mapping[str, int]:
    with Source(model) as source:
        return aggregation.initial_exponents(tensors.spec_of(source.tensors, source.meta), announced)


def next_step(step: Step, policy: Policy, random_seed: int, round_number: int, examples: Mapping[str, int]) -> Step:
    """What the round makes of these clients' updates, in plain arithmetic."""
    weights, meta = tensors.decode(step.model)
    spec = tensors.spec_of(weights, meta)
    total = Accumulator(spec, step.exponents)
    for client, number in examples.items():
        update = train(step.model, client, task_seed(random_seed, round_number, client))
        with Source(update) as source:
            total.fold(source, weight_of(policy.weighting, number))
    optimizer = aggregation.server_optimizer(policy.strategy.name)
    parameters = optimizer.configure(policy.strategy.parameters)
    new, after = aggregation.next_model(weights, spec, total.finish(), optimizer, parameters, step.state)
    following = aggregation.exponents(total.second_largest(), step.exponents)
    return Step(tensors.encode(new, meta), after or None, following)


def whole_session(first: bytes, policy: Policy, random_seed: int, examples: Mapping[str, int]) -> list[bytes]:
    """The models that a session makes of its first one if every client's update is accepted in every round."""
    step = Step(first, None, first_exponents(first, tuple(sorted(examples.values()))))
    models = []
    for round_number in range(1, policy.rounds + 1):
        step = next_step(step, policy, random_seed, round_number, examples)
        models.append(step.model)
    return models

"""Runs Flower's clients as trainers, from flwr 1.24 on: `trainer: flower:client_app.py:app`.

| the name stands for | how it is called |
|---|---|
| a NumPyClient, its class, or a function of a Context that returns one | `fit` and `evaluate`, by their names |
| a ClientApp with `@app.train()` and `@app.evaluate()` | with a Message: `arrays` and `config` |
| a ClientApp made of a `client_fn` | with a Message in Flower's older records |

The session's configuration is Flower's config, and overrides the run config, whose defaults are those of
`pyproject.toml` beside `fedn.yaml`. `partition-id` is the client's ordinal. `context.state` is kept in `task.state`. An
evaluator's `node_config` has `evaluator` True: an app that scores a test set there states it by `test_set: true` in
`fedn.yaml`. Nothing of Flower is imported here: only a ClientApp needs `flwr`, in the user's own installation.
"""

from __future__ import annotations

import inspect
import sys
import time
import tomllib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fedmq.model_files.naming import in_order
from fedmq.tensors import Weights
from fedmq_client.checks import GIVE_A_FILE, InvalidResult, kind, without_values
from fedmq_client.frameworks import flower_records as records
from fedmq_client.packages.package import PackageError
from fedmq_client.trainer import Client, Task, Trainer, TrainerMetrics

SERVER_ROUND = "server-round"
PROJECT = "pyproject.toml"
LOWEST = (1, 24)
"""The first release of Flower whose apps run here, in the same environment as FedMQ."""
TTL = 43_200.0
"""Seconds that a Message is valid for. Nothing looks at it here."""


def flower_trainer(folder: Path, found: Any, what: str, client: Client) -> Trainer:
    """Returns a trainer for the object `found` of the user's file. Raises PackageError if it is nothing of Flower's."""
    _check_release()
    run_config = _run_config(folder)
    if hasattr(found, "lifespan") and callable(found):
        return _AppTrainer(found, client, run_config)
    if callable(found) or records.is_numpy_client(found):
        return _NumpyTrainer(found, client, run_config)
    is_what = "not there" if found is None else kind(found)
    raise PackageError(f"{what} is {is_what}: name a ClientApp, a NumPyClient, or a function that returns one")


class _FlowerTrainer:
    def __init__(self, made: Any, client: Client, run_config: Mapping[str, Any]) -> None:
        self._made = made
        self._client = client
        self._run_config = run_config

    def _context(self, task: Task | None) -> Any:
        """Returns Flower's Context, or a stand-in if the user's code has not imported Flower."""
        config = {**self._run_config, **(task.config if task else {})}
        node: dict[str, Any] = {"partition-id": self._client.ordinal, "num-partitions": self._client.count}
        if self._client.evaluator:
            node["evaluator"] = True
        state = task.state if task else {}
        if "flwr" not in sys.modules:
            return SimpleNamespace(
                run_id=0, node_id=self._client.ordinal, node_config=node, run_config=config, state=state
            )
        return import_module("flwr.app").Context(0, self._client.ordinal, node, records.state_from(state), config)

    def _keep(self, context: Any, task: Task) -> None:
        if context.state is not task.state:
            task.state = records.state_to(context.state)


class _NumpyTrainer(_FlowerTrainer):
    """Runs a NumPyClient, made anew for each task, as Flower does."""

    def init(self) -> Weights:
        numpy_client = self._numpy_client(self._context(None))
        if records.is_flowers_own(numpy_client, "get_parameters"):
            raise without_values(f"the NumPyClient has no get_parameters: write it, or {GIVE_A_FILE}")
        return records.listed(numpy_client.get_parameters({}))

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, TrainerMetrics]:
        context, names = self._context(task), in_order(weights)
        arrays, examples, metrics = self._numpy_client(context).fit([weights[name] for name in names], _config(task))
        self._keep(context, task)
        return records.renamed(names, records.listed(arrays)), examples, metrics

    def validate(self, weights: Weights, task: Task) -> tuple[int, TrainerMetrics] | None:
        context = self._context(task)
        numpy_client = self._numpy_client(context)
        if records.is_flowers_own(numpy_client, "evaluate"):
            return None
        arrays = [weights[name] for name in in_order(weights)]
        loss, examples, metrics = numpy_client.evaluate(arrays, _config(task))
        return examples, {"loss": loss, **metrics}

    def _numpy_client(self, context: Any) -> Any:
        made = self._made
        if inspect.isclass(made):
            made = made()
        elif not records.is_numpy_client(made):
            made = made(context)
        # Flower's to_client() wraps the NumPyClient.
        made = getattr(made, "numpy_client", made)
        if not records.is_numpy_client(made):
            raise without_values(f"the Flower client is {kind(made)}, which has not fit and evaluate")
        return made


class _AppTrainer(_FlowerTrainer):
    """Runs a ClientApp, called with one Message a task."""

    @property
    def _older(self) -> bool:
        """Whether it was made of a `client_fn`."""
        return getattr(self._made, "_call", None) is not None

    def init(self) -> Weights:
        if not self._older:
            raise without_values(f"a ClientApp has no first weights: {GIVE_A_FILE}")
        answer = self._ask("get_parameters", {"getparametersins.config": records.config({})}, self._context(None))
        arrays = answer["getparametersres.parameters"]
        return records.listed([array.numpy() for array in arrays.values()])

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, TrainerMetrics]:
        context = self._context(task)
        answer = self._ask("train", self._content("fitins", weights, task), context)
        self._keep(context, task)
        arrays, metrics = records.only(answer, "array_records"), self._metrics("fitres", answer)
        examples = metrics.pop("num-examples", None)
        new = {name: array.numpy() for name, array in arrays.items()}
        return records.renamed(in_order(weights), new), examples, metrics

    def validate(self, weights: Weights, task: Task) -> tuple[int | None, TrainerMetrics] | None:
        registered = getattr(self._made, "_registered_funcs", None)
        if not self._older and registered is not None and "evaluate.default" not in registered:
            return None
        answer = self._ask("evaluate", self._content("evaluateins", weights, task), self._context(task))
        status = answer.get("evaluateres.status", {"code": records.CODE_OK})
        if status["code"] != records.CODE_OK:
            return None
        metrics = self._metrics("evaluateres", answer)
        return metrics.pop("num-examples", None), metrics

    def _content(self, older: str, weights: Weights, task: Task) -> dict[str, Any]:
        if self._older:
            arrays = records.arrays(records.listed([weights[name] for name in in_order(weights)]))
            return {f"{older}.parameters": arrays, f"{older}.config": records.config(_config(task))}
        return {"arrays": records.arrays(records.as_sent(weights)), "config": records.config(_config(task))}

    def _metrics(self, older: str, answer: Any) -> dict[str, Any]:
        if not self._older:
            return dict(records.only(answer, "metric_records"))
        metrics = dict(answer[f"{older}.metrics"])
        if f"{older}.loss" in answer:
            metrics["loss"] = answer[f"{older}.loss"]["loss"]
        return {**metrics, "num-examples": answer[f"{older}.num_examples"]["num_examples"]}

    def _ask(self, kind: str, content: dict[str, Any], context: Any) -> Any:
        """Calls the app and returns the content of its answer. Raises InvalidResult if that is an error."""
        flower = import_module("flwr.app")
        # Without metadata of its own a Message looks for a task of Flower's runtime, which does not exist here.
        metadata = flower.Metadata(
            run_id=0,
            message_id="",
            src_node_id=0,
            dst_node_id=self._client.ordinal,
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=TTL,
            message_type=kind,
        )
        reply = self._made(flower.Message(content=flower.RecordDict(content), metadata=metadata), context)
        if reply.has_error():
            raise InvalidResult(
                f"the ClientApp answered with an error: {reply.error.reason}", "the ClientApp answered with an error"
            )
        return reply.content


def _check_release() -> None:
    """Raises PackageError if the user's code has imported a Flower that is too old to be called from here."""
    if "flwr" in sys.modules:
        release = version("flwr")
        if tuple(int(part) for part in release.split(".")[:2]) < LOWEST:
            least = ".".join(map(str, LOWEST))
            raise PackageError(
                f"flwr {release} is installed: FedMQ needs flwr >= {least} (pip install 'flwr>={least}')"
            )


def _config(task: Task) -> dict[str, Any]:
    return {SERVER_ROUND: task.round, **task.config}


def _run_config(folder: Path) -> dict[str, Any]:
    """Returns `[tool.flwr.app.config]` of the app's project, with dots between the names of nested tables."""
    path = folder / PROJECT
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackageError(f"{path} is not valid TOML: {error}") from error
    for key in ("tool", "flwr", "app", "config"):
        found = found.get(key, {})
    return dict(_flat(found, ""))


def _flat(table: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found = []
    for name, value in table.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found

"""What a policy decides, each on real numbers: schedule, selection, early stop, tensors that stay, bounds, FedProx."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq.blobs.files import FileBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq.tensors import tensorblob
from fedmq_client.packages.package import load
from fedmq_sandbox import ConfigError, Sandbox
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from sandbox.commands import REGRESSION
from support.packages import write_package

SITES = {"site": ("north", "south")}

ECHO = """
import numpy as np

class Trainer:
    test_set = True

    def __init__(self, client):
        self.client = client

    def init(self):
        return {"body/w": np.zeros(2), "head/w": np.ones(2), "backbone/w": np.full(3, 7.0)}

    def train(self, weights, task):
        step = 1.0 + self.client.ordinal
        weights["body/w"] += step
        weights["head/w"] += 10 * step
        if task.config.get("thaw"):
            weights["backbone/w"] += 1
        task.state["seen"] = np.array([task.round])
        return weights, 1, {"rate": task.config.get("rate", -1.0), "state": len(task.state)}

    def validate(self, weights, task):
        return 1, {"head": float(weights["head/w"][0]), "backbone": float(weights["backbone/w"][0])}
"""


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """Steps by 1 + ordinal, and tells the configuration that it is given."""
    return write_package(tmp_path / "echo", ECHO)


@contextmanager
def _trained(
    package: Path, policy: Mapping[str, Any], clients: int = 4, **options: Any
) -> Iterator[tuple[Sandbox, dict[str, Any]]]:
    with Sandbox(package, policy={"random_seed": 3, **policy}, clients=clients, workers=0, **options) as box:
        yield box, box.run()


def _rounds(box: Sandbox) -> list[dict[str, Any]]:
    return list(box.records.find(tables.ROUNDS, order="round"))


def _model(box: Sandbox, number: int) -> dict[str, Any]:
    return box.records.find(tables.MODELS, {"session": box.session, "round": number})[0]


def _weights(box: Sandbox, number: int) -> tensorblob.Weights:
    return tensorblob.decode(box.blobs.get(_model(box, number)["ref"]["key"]))[0]


# -- schedule -------------------------------------------------------------------------------------------------------


def test_a_scheduled_key_has_its_newest_value_in_each_round(echo: Path) -> None:
    policy = {"rounds": 5, "train": {"rate": 9.0}, "schedule": {"rate": {"2": 0.1, "4": 0.01}}}
    with _trained(echo, policy) as (box, _):
        assert [each["metrics"]["rate"]["mean"] for each in _rounds(box)] == [9.0, 0.1, 0.1, 0.01, 0.01]


# -- who takes part -------------------------------------------------------------------------------------------------


def _asked(box: Sandbox) -> set[str]:
    plans = [plan for attempt in box.records.find(tables.ATTEMPTS) for plan in attempt["plans"]]
    return {client for plan in plans for client in plan["clients"]}


def test_only_clients_with_the_labels_take_part_and_evaluators_still_score() -> None:
    policy = {"rounds": 3, "clients": {"where": {"site": "north"}}}
    with _trained(REGRESSION, policy, labels=SITES) as (box, session):
        assert session["state"] == "finished"
        assert _asked(box) == {"client1", "client3"}
        assert "test/mse" in _model(box, 3)["metrics"]
        assert _model(box, 3)["metrics"]["mse"]["n"] == 2


def test_a_required_package_is_the_clients_or_they_have_no_part() -> None:
    with _trained(REGRESSION, {"rounds": 1, "package": load(REGRESSION).sha256}) as (_, session):
        assert session["state"] == "finished"
    with (
        pytest.raises(ConfigError, match="no client could take part"),
        _trained(REGRESSION, {"rounds": 1, "package": "0" * 64}),
    ):
        pass


# -- early stop and the best model ----------------------------------------------------------------------------------

PATIENT = {"rounds": 40, "select": {"metric": "test/mse"}, "stop": {"patience": 3, "min_delta": 1.0}}


def test_patience_ends_a_session_so_many_rounds_after_its_best_model() -> None:
    with _trained(REGRESSION, PATIENT) as (box, session):
        values = [_model(box, number)["metrics"]["test/mse"]["mean"] for number in range(1, len(_rounds(box)) + 1)]
        best = session["score"]["best_round"]
        assert session["state"] == "finished"
        assert len(values) == best + 3 < 40
        assert values[best - 1] == session["score"]["best"]
        assert all(value > values[best - 1] - 1.0 for value in values[best:])
        assert f"has not become better than {values[best - 1]:g} (round {best})" in session["reason"]
        assert _model(box, len(values))["metrics"]["mse"]["n"] == 4


def test_without_an_evaluator_the_clients_validations_decide() -> None:
    policy = {"rounds": 40, "random_seed": 1, "stop": {"target": 5000.0}}
    with _trained(REGRESSION, policy, clients=3, evaluator=False) as (box, session):
        assert session["score"]["metric"] == "mse"
        assert session["score"]["value"] <= 5000.0
        validated = box.records.count(tables.EVENTS, {"name": "model.validated", "client": "client1"})
        assert validated == len(_rounds(box)) + 1  # each model once, the seed with the first training


# -- tensors that stay ----------------------------------------------------------------------------------------------


def test_local_tensors_stay_at_their_client_and_frozen_ones_never_travel(echo: Path) -> None:
    policy = {"rounds": 3, "tensors": {"local": ["head/*"], "frozen": ["backbone/*"]}}
    with _trained(echo, policy, clients=2) as (box, _):
        weights = _weights(box, 3)
        assert set(weights) == {"body/w"}
        np.testing.assert_array_equal(weights["body/w"], np.full(2, 3 * 1.5))
        heads = {each["client"]: each["metrics"]["head"] for each in box.records.find(tables.VALIDATIONS, {"round": 3})}
        assert heads == {"client1": 1.0 + 3 * 10, "client2": 1.0 + 3 * 20, "evaluator": 1.0}
        assert _model(box, 3)["metrics"]["backbone"]["min"] == 7.0
        assert [each["metrics"]["state"]["mean"] for each in _rounds(box)] == [1.0] * 3  # the user's own state alone
        base = tensorblob.decode(box.blobs.get(_model(box, 3)["base"]["key"]))
        assert set(base[0]) == {"head/w", "backbone/w"}


def test_a_session_goes_on_from_a_model_in_parts_as_a_whole(echo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with _trained(echo, {"rounds": 1, "tensors": {"frozen": ["backbone/*"]}}, clients=2) as (box, _):
        first = box.blobs.get(_model(box, 1)["base"]["key"])
        assert set(tensorblob.decode(first)[0]) == {"backbone/w"}
        seed = _model(box, 1)["model"]
        blobs = FileBlobs(folder / "blobs", fsync=False)
        for info in [*box.blobs.list(keys.ALL_MODELS), *box.blobs.list(f"{keys.UPDATES}/")]:
            blobs.put(info.key, box.blobs.get(info.key))
        with closing(SqliteRecords(folder / "records.db", fsync=False)) as records:
            for document in box.records.find(tables.MODELS):
                records.put(tables.MODELS, document["model"], document)
    with Sandbox(echo, clients=2, workers=0, rounds=1, seed=seed, random_seed=1, state_dir=folder) as other:
        assert other.run()["state"] == "finished"
        assert set(_weights(other, 1)) == {"body/w", "head/w", "backbone/w"}


def test_a_frozen_tensor_that_a_trainer_changes_is_restored_with_a_note(echo: Path) -> None:
    policy = {"rounds": 2, "train": {"thaw": True}, "tensors": {"frozen": ["backbone/*"]}}
    with _trained(echo, policy) as (box, session):
        assert session["state"] == "finished"
        assert _model(box, 2)["metrics"]["backbone"]["min"] == _model(box, 2)["metrics"]["backbone"]["max"] == 7.0
        events = [each["data"] for each in box.records.find(tables.EVENTS, {"name": "update.accepted"})]
        note = "the policy freezes backbone/w, so its value from train is not used"
        assert [event["notes"] for event in events] == [[note]] * 8


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"local": ["tail/*"]}, "tensors.local: 'tail/*' names no tensor of this model"),
        ({"local": ["head/*"], "frozen": ["*"]}, "'head/w' is both local and frozen"),
        ({"frozen": ["*"]}, "none is left to share"),
    ],
)
def test_patterns_that_do_not_fit_the_model_are_refused(echo: Path, tensors: dict[str, Any], reason: str) -> None:
    with _trained(echo, {"tensors": tensors}) as (_, session):
        assert session["state"] == "failed"
        assert reason in session["reason"]


# -- bounds on updates ----------------------------------------------------------------------------------------------


def test_clipped_updates_have_the_norm_that_the_policy_allows(echo: Path) -> None:
    with _trained(echo, {"rounds": 1, "update": {"clip_norm": 2.0}}, clients=2) as (box, _):
        norms = box.records.find(tables.PARTICIPATION)[0]["norms"]
        assert norms == [pytest.approx(2.0), pytest.approx(2.0)]


def test_an_update_longer_than_the_policy_allows_is_rejected_with_its_norm(echo: Path) -> None:
    with _trained(echo, {"rounds": 1, "update": {"max_norm": 20.0}}, clients=2) as (box, session):
        assert session["state"] == "finished"
        found = box.records.find(tables.PARTICIPATION)[0]
        assert found["outcomes"] == ["accepted", "rejected"]
        assert "its norm is 28.4253, and the policy allows 20" in found["reasons"]["client2"]


BATCH_NORM = """
import numpy as np

class Trainer:
    roles = {"running_var": "statistic"}

    def __init__(self, client):
        self.client = client

    def init(self):
        return {"weight": np.zeros(5000, "f4"), "running_var": np.zeros(3, "f4"), "num_batches_tracked": np.array(0)}

    def train(self, weights, task):
        rng = np.random.default_rng(task.seed)
        weights["weight"] += rng.normal(size=5000).astype("f4")
        weights["running_var"] += 40
        weights["num_batches_tracked"] += 25
        return weights, 1, {}
"""


@pytest.mark.parametrize("most", [2.0, 1.0])
def test_an_update_that_was_clipped_is_accepted_whatever_its_statistics_and_counters_are(
    echo: Path, most: float
) -> None:
    (echo / "trainer.py").write_text(BATCH_NORM)
    with _trained(echo, {"rounds": 2, "update": {"clip_norm": 1.0, "max_norm": most}}) as (box, session):
        assert session["state"] == "finished"
        for found in box.records.find(tables.PARTICIPATION):
            assert found["outcomes"] == ["accepted"] * 4
            assert found["norms"] == [pytest.approx(1.0, rel=1e-6)] * 4


# -- bytes that can't be averaged ----------------------------------------------------------------------------------


OPAQUE = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    roles = {"tree": "opaque", "floats": "opaque"}

    def init(self):
        return self.made(0, 0)

    def made(self, round, ordinal):
        rng = np.random.default_rng([round, ordinal])
        raw = rng.integers(0, 256, 4096, np.uint8)
        return {"tree": raw, "floats": np.frombuffer(raw.tobytes(), "f4").copy(), "w": np.full(2, float(round))}

    def train(self, weights, task):
        before = [self.made(task.round - 1, ordinal)["tree"] for ordinal in range(3)]
        assert any(np.array_equal(weights["tree"], each) for each in before), "the bytes are somebody's, all of them"
        return self.made(task.round, self.client.ordinal), 60 + task.round, {}
"""


def test_bytes_of_one_client_in_each_round_are_kept_exactly(echo: Path) -> None:
    (echo / "trainer.py").write_text(OPAQUE)
    policy = {"rounds": 6, "clients_requested": 1, "strategy": {"name": "fedadam"}}
    with _trained(echo, policy, clients=3) as (box, session):
        assert session["state"] == "finished", session["reason"]
        assert [sorted(each["outcomes"]) for each in box.records.find(tables.PARTICIPATION)] == [["accepted"]] * 6
        model, meta = tensorblob.decode(box.blobs.get(keys.model_blob(session["model"])))
    makers = [np.random.default_rng([6, ordinal]).integers(0, 256, 4096, np.uint8).tobytes() for ordinal in range(3)]
    assert model["tree"].tobytes() in makers and model["floats"].tobytes() == model["tree"].tobytes()
    assert meta["roles"] == {"tree": "opaque", "floats": "opaque"}


STUMP = """
import json
import numpy as np

LENGTH = 1000

def padded(tree):
    return np.frombuffer(json.dumps(tree).encode().ljust(LENGTH), np.uint8)

class Trainer:
    roles = {"tree": "opaque"}

    def __init__(self, client):
        self.client = client

    def init(self):
        return {"tree": padded({"at": []})}

    def train(self, weights, task):
        tree = json.loads(weights["tree"].tobytes())
        tree["at"].append([task.round, self.client.name])
        return {"tree": padded(tree)}, 10, {}
"""


def test_a_model_of_bytes_grows_from_round_to_round_as_the_refusal_of_other_models_advises(echo: Path) -> None:
    (echo / "trainer.py").write_text(STUMP)
    with _trained(echo, {"rounds": 3, "clients_requested": 1}, clients=2) as (box, session):
        assert session["state"] == "finished", session["reason"]
        tree = json.loads(box.weights()["tree"].tobytes())
    assert [number for number, _ in tree["at"]] == [1, 2, 3]


def test_a_session_that_would_average_bytes_is_refused_with_the_remedy(echo: Path) -> None:
    (echo / "trainer.py").write_text(OPAQUE)
    with _trained(echo, {"rounds": 1}) as (_, session):
        assert session["state"] == "failed"
        assert "'floats' is opaque, and bytes of several clients can't be averaged" in session["reason"]
        assert "clients_requested = 1" in session["reason"]


# -- FedProx --------------------------------------------------------------------------------------------------------


def test_fedprox_holds_clients_together_that_would_drift_apart_and_gets_closer() -> None:
    spreads, errors = {}, {}
    for mu in (0.0, 1.0):
        train = {"steps": 20, "learning_rate": 0.1, "proximal_mu": mu}
        policy = {"rounds": 10, "random_seed": 2, "train": train}
        with _trained(REGRESSION, policy, clients=5, dirichlet=0.1) as (box, _):
            norms = box.records.find(tables.PARTICIPATION, {"round": 1})[0]["norms"]
            spreads[mu] = max(norms) - min(norms)
            errors[mu] = _model(box, 10)["metrics"]["mse"]["mean"]
    assert spreads[1.0] < spreads[0.0] / 2
    assert errors[1.0] < errors[0.0]

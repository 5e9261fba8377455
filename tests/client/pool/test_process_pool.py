"""A pool of worker processes: what crosses to a worker and back, and which worker runs a job."""

import threading
from pathlib import Path
from typing import Any

import pytest

from client.pool.runner import MODEL, PATIENCE, Runner
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client.job.job import Validated
from fedmq_client.pool.processes import ProcessPool


def test_weights_and_state_cross_by_file(runner: Runner, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(MODEL)
    output = tmp_path / "update"
    first = runner.run(model=model, output=output)
    assert (first.update, first.state) == (output, tmp_path / "update.state")
    assert tensors.decode(output.read_bytes())[0]["w"].tolist() == [1, 1, 1]
    second = runner.run(model=model, output=tmp_path / "second", state=first.state)
    assert isinstance(second.state, Path)
    assert tensors.decode(second.state.read_bytes())[0]["rounds"].tolist() == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model",
        "package",
        "second",
        "second.state",
        "update",
        "update.state",
    ]


def test_the_received_model_is_validated_before_training(runner: Runner) -> None:
    reported: list[Validated] = []
    result = runner.start(runner.job(validate=True), reported.append)()
    assert [(v.examples, v.metrics) for v in reported] == [(7, {"loss": 3.0, "trained": 0})]
    assert set(result.seconds) == {"validate", "train"}
    only = runner.run(kind="validate")
    assert (only.outcome, only.examples, only.metrics) == ("done", 7, {"loss": 3.0, "trained": 1})
    assert only.update is None


def test_a_trainer_that_raises_fails_with_its_traceback_and_its_output(runner: Runner) -> None:
    result = runner.run("raise")
    assert result.outcome == "failed"
    assert result.reason == "train raised ValueError: no such patient"
    assert "line " in result.traceback and "running.py" not in result.traceback
    assert "about to fail" in result.traceback
    pids = runner.pool.worker_pids()
    runner.works()
    assert runner.pool.worker_pids() == pids


def test_a_trainer_can_read_nothing_of_the_pools_messages(runner: Runner) -> None:
    assert runner.run("read").metrics == {"stdin": "", "bytes": 0}


def test_a_package_that_can_not_be_loaded_fails_with_the_cause(runner: Runner, package: Path) -> None:
    (package / "fedn.yaml").unlink()
    result = runner.run()
    assert result.outcome == "failed"
    assert "has no fedn.yaml" in result.reason


def test_clients_keep_their_warm_trainers(two_workers: Runner) -> None:
    held = two_workers.job("wait", client="a")
    cancelled = two_workers.start(held)
    two_workers.run(client="b")  # by the other worker
    two_workers.pool.cancel(held.id)
    cancelled()
    runs = [(two_workers.run(client="a").metrics, two_workers.run(client="b").metrics) for _ in range(3)]
    assert [(a["calls"], b["calls"]) for a, b in runs] == [(1, 2), (2, 3), (3, 4)]
    assert len({(a["pid"], b["pid"]) for a, b in runs}) == 1
    assert runs[0][0]["pid"] != runs[0][1]["pid"]


def test_an_idle_worker_takes_over_from_a_busy_one_with_the_same_result(two_workers: Runner) -> None:
    home = two_workers.run()
    reported = threading.Event()
    busy = two_workers.start(two_workers.job("wait", validate=True), lambda _: reported.set())
    assert reported.wait(PATIENCE)
    away = two_workers.run()
    assert away.metrics["pid"] != home.metrics["pid"]
    assert away.update == home.update
    for key in ("draw", "hash"):
        assert away.metrics[key] == home.metrics[key]
    two_workers.pool.cancel("j2")
    assert busy().outcome == "cancelled"


def test_device_and_threads_are_in_the_workers_environment(package: Path) -> None:
    pool = ProcessPool(1, device="cpu", threads=1)
    try:
        metrics = Runner(pool, package).run().metrics
        assert (metrics["threads"], metrics["device"]) == ("1", "-1")
        assert 0 < metrics["left"] <= PATIENCE
    finally:
        pool.close()


def test_a_bad_device_or_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="FEDN_CLIENT_DEVICE is 'gpu'"):
        ProcessPool(1, device="gpu")
    with pytest.raises(ConfigError, match="at least one worker"):
        ProcessPool(0)


def test_a_callback_that_raises_does_not_stop_the_pool(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the app is broken")

    runner.pool.submit(runner.job(), fail, fail, fail)
    runner.works()
    assert "the app is broken" in caplog.text


def test_a_job_that_cant_be_sent_fails_and_its_worker_serves_the_next(runner: Runner) -> None:
    for value in (2**64, object()):
        result = runner.run(config={"do": None, "value": value})
        assert result.outcome == "failed"
        assert result.reason.startswith("the job can't be sent to a worker process: ")
    runner.works()

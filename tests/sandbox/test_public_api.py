"""The sandbox as a script or a notebook uses it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq_sandbox import CommittedRound, ConfigError, FedMQError, Interrupted, NotFound, Sandbox
from fedmq_sandbox.rounds import committed_rounds
from fedmq_schemas.messages import Envelope, Event
from sandbox.commands import REGRESSION
from support.packages import write_package

SECONDS = 20.0
"""The longest that a test waits for what does not happen."""

SCRIPT = """
import signal
from fedmq_sandbox import Sandbox

before = signal.getsignal(signal.SIGINT)
with Sandbox({package!r}, clients=2, workers=2, rounds=2, random_seed=1) as sandbox:
    print([round.number for round in sandbox.rounds()], signal.getsignal(signal.SIGINT) is before)
"""


def _sandbox(**options: Any) -> Sandbox:
    return Sandbox(REGRESSION, **{"clients": 3, "workers": 0, "random_seed": 3, **options})


def test_rounds_are_given_in_order_with_the_test_of_their_model() -> None:
    with _sandbox(rounds=3) as sandbox:
        rounds = list(sandbox.rounds())
        assert sandbox.run()["state"] == "finished"
        assert sandbox.model()["model"] == rounds[-1].model
    assert [each.number for each in rounds] == [1, 2, 3]
    assert rounds[2].metrics["test/mse"] < rounds[0].metrics["test/mse"]
    assert rounds[2].training["mse"] < rounds[0].training["mse"]
    assert [each.counts["accepted"] for each in rounds] == [3, 3, 3]


def test_a_round_is_given_while_the_session_continues() -> None:
    given, continued = threading.Event(), threading.Event()

    def follow(_: Envelope, event: Event) -> None:
        if (event.name, event.round) == ("round.committed", 3):
            given.wait(SECONDS)
        if (event.name, event.round) == ("round.committed", 4):
            continued.set()

    with _sandbox(rounds=4, evaluator=False, on_event=follow) as sandbox:
        rounds = sandbox.rounds()
        assert next(rounds).number == 1
        assert sandbox.records.get("sessions", sandbox.session)["state"] == "running"  # type: ignore[index]
        given.set()
        assert continued.wait(SECONDS), "the session does not wait until the next round is asked for"
        assert [each.number for each in rounds] == [2, 3, 4]


@pytest.mark.parametrize("validation", ["with_training", "separate", "none"])
def test_a_round_that_is_given_has_all_its_scores(validation: str) -> None:
    expected = {"test/mse"} if validation == "none" else {"mse", "test/mse"}
    with _sandbox(rounds=20, validation=validation) as sandbox:
        first = list(sandbox.rounds())
        assert [each.metrics.keys() for each in first] == [expected] * 20
        assert [each.metrics for each in sandbox.rounds()] == [each.metrics for each in first]


def test_two_loops_over_the_rounds_both_receive_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with _sandbox(rounds=2) as sandbox:

        def run_a_second_loop(*arguments: Any) -> Iterator[CommittedRound]:
            monkeypatch.undo()
            found = list(committed_rounds(*arguments))
            sandbox.run()  # the session ends after the first loop has looked and before it waits
            assert [each.number for each in sandbox.rounds()] == [1, 2]
            return iter(found)

        monkeypatch.setattr("fedmq_sandbox.rounds.committed_rounds", run_a_second_loop)
        assert [each.number for each in sandbox.rounds()] == [1, 2]


def test_without_an_evaluator_a_round_has_what_the_trainers_reported() -> None:
    with _sandbox(rounds=1, evaluator=False) as sandbox:
        [only] = sandbox.rounds()
    assert only.training.keys() == {"mse"}


def test_a_session_that_a_loop_has_left_is_resumed_to_the_same_model(tmp_path: Path) -> None:
    with _sandbox(rounds=30) as whole:
        whole.run()
        expected = whole.model()["ref"]["sha256"]
    with _sandbox(rounds=30, state_dir=tmp_path) as sandbox:
        for each in sandbox.rounds():
            if each.number == 2:
                break
        with pytest.raises(Interrupted):
            sandbox.run()
    with _sandbox(rounds=30, state_dir=str(tmp_path)) as sandbox:
        assert [each.number for each in sandbox.rounds()] == list(range(1, 31))
        assert sandbox.model()["ref"]["sha256"] == expected


def test_the_best_model_comes_as_arrays() -> None:
    with _sandbox(rounds=4) as sandbox:
        sandbox.run()
        by_mse = min(sandbox.rounds(), key=lambda each: each.metrics["test/mse"])
        assert sandbox.model("best", metric="test/mse")["model"] == by_mse.model
        best = sandbox.weights("best", metric="test/mse")
        assert {name: array.shape for name, array in best.items()} == {"coefficients": (7,), "intercept": (1,)}
        np.testing.assert_equal(sandbox.weights(by_mse.model), best)
        with pytest.raises(NotFound, match="there is no model 'none'"):
            sandbox.weights("none")


def test_there_is_no_model_before_the_first_round() -> None:
    with _sandbox() as sandbox, pytest.raises(NotFound, match="has made no model yet"):
        sandbox.model("best")


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.real)])
def test_a_running_event_loop_does_not_matter(workers: str) -> None:
    async def train() -> str:
        with _sandbox(rounds=1, workers=int(workers)) as sandbox:
            return str(sandbox.run()["state"])

    assert asyncio.run(train()) == "finished"


def test_a_script_on_stdin_has_worker_processes_without_a_guard_and_keeps_its_signal_handlers(tmp_path: Path) -> None:
    script = SCRIPT.format(package=str(REGRESSION))
    done = subprocess.run([sys.executable], input=script, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[1, 2] True\n", "")


def test_ctrl_c_ends_the_block_and_the_session(tmp_path: Path) -> None:
    def train() -> None:
        with _sandbox(rounds=1_000_000, state_dir=tmp_path) as sandbox:
            for each in sandbox.rounds():
                if each.number == 2:
                    os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell starts jobs in the background without it
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        signal.signal(signal.SIGINT, before)
    with _sandbox(rounds=1_000_000, state_dir=tmp_path) as sandbox:  # the folder is not in use any more
        assert next(sandbox.rounds()).number == 1


def test_what_stops_the_session_is_raised_where_the_caller_waits(tmp_path: Path) -> None:
    write_package(
        tmp_path,
        "class Trainer:\n"
        "    def __init__(self, client): ...\n"
        "    def init(self): raise ValueError('no shape')\n"
        "    def train(self, weights, task): ...\n",
    )
    for wait in (Sandbox.run, lambda sandbox: list(sandbox.rounds())):
        with Sandbox(tmp_path, workers=0) as sandbox, pytest.raises(ConfigError, match="no shape"):
            wait(sandbox)


def test_a_loop_over_the_rounds_of_a_failed_session_raises_its_reason_and_the_traceback(tmp_path: Path) -> None:
    write_package(
        tmp_path,
        "import numpy as np\n"
        "class Trainer:\n"
        "    def __init__(self, client): ...\n"
        "    def init(self): return {'w': np.zeros(1)}\n"
        "    def train(self, weights, task): return task.config['epochs']\n",
    )
    with Sandbox(tmp_path, workers=0, clients=3, retries=0) as sandbox:
        with pytest.raises(FedMQError) as failed:
            list(sandbox.rounds())
        assert sandbox.run()["state"] == "failed"
        assert list(sandbox.rounds()) == [], "who knows how it ended reads its rounds"
    assert str(failed.value).endswith(": 3 of 3 clients failed: train raised KeyError: 'epochs'")
    [note] = failed.value.__notes__
    assert note.startswith("Traceback") and note.endswith("KeyError: 'epochs'\n")


def test_a_sandbox_under_a_debugger_trains_in_the_callers_thread_without_time_limits(tmp_path: Path) -> None:
    write_package(
        tmp_path,
        "import threading\n"
        "import numpy as np\n"
        "class Trainer:\n"
        "    def __init__(self, client): ...\n"
        "    def init(self): return {'w': np.zeros(1)}\n"
        "    def train(self, weights, task):\n"
        "        return weights, 1, {'left': task.deadline, 'thread': threading.get_ident()}\n",
    )
    with Sandbox(tmp_path, debug=True, clients=2, rounds=1, timeout=1) as sandbox:
        [only] = sandbox.rounds()
        assert only.training["thread"] == threading.get_ident()
        assert only.training["left"] > 24 * 3600


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"debug": True, "workers": 2}, "debug trains in this process: leave workers out"),
        ({"client": 3}, "'client' is neither an option of Sandbox nor a key of the policy: did you mean 'clients'?"),
        ({"round": 3}, "did you mean 'rounds'?"),
        ({"rounds": 0}, "rounds: must be greater than or equal to 1 (not 0)"),
        ({"policy": {"clients": {"fractions": 1}}}, "clients: unknown key 'fractions': did you mean 'fraction'?"),
        ({"clients": {"fraction": 1}}, "as policy={'clients': {…}}"),
        ({"clients": 0}, "clients must be an integer of at least 1 (not 0)"),
        ({"clients": "5"}, "clients must be an integer of at least 1 (not '5')"),
        ({"combiners": None}, "combiners must be an integer of at least 1 (not None)"),
        ({"workers": -1}, "workers must be an integer of at least 0 (not -1)"),
        ({"workers": 0.5}, "workers must be an integer of at least 0 (not 0.5)"),
        ({"dirichlet": 0.0}, "dirichlet must be a number greater than 0 (not 0.0)"),
        ({"dirichlet": "skewed"}, "dirichlet must be a number greater than 0 (not 'skewed')"),
        ({"alliance": 5}, "alliance must be a name (not 5)"),
        ({"form": "zz"}, "form must be one of trainer, commands, or None"),
        ({"policy": "session.toml"}, "policy must be a mapping with the keys of a session file"),
        ({"labels": ["north"]}, "labels must be a mapping"),
        ({"labels": {"site": "north"}}, "the label 'site' needs a list of values"),
        ({"labels": {"site": [1, 2]}}, "the label 'site' needs a list of values"),
        ({"labels": {"site": ["x" * 257]}}, "the label 'site' can't be sent: a text has 257 characters, more than 256"),
        ({"labels": {"a\0b": ["x"]}}, "can't be sent: a text holds NUL or half a character"),
        ({"labels": {f"l{n}": ["x"] for n in range(65)}}, "there are 65 labels: a client has at most 64"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_write(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Sandbox(REGRESSION, **options)
    assert complaint in refused.value.reason


def test_a_sandbox_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(ConfigError, match="with Sandbox"):
        _sandbox().run()


def test_a_sandbox_is_opened_once() -> None:
    sandbox = _sandbox()
    with sandbox:
        with pytest.raises(ConfigError, match="opened once"), sandbox:
            pass
        assert sandbox.session
    with pytest.raises(ConfigError, match="opened once"), sandbox:
        pass


def test_a_sandbox_that_ran_its_session_says_how_to_serve() -> None:
    with _sandbox(rounds=1) as sandbox:
        sandbox.run()
        with pytest.raises(ConfigError, match="open another Sandbox for serve"):
            sandbox.serve(lambda: None)


def test_a_sandbox_that_serves_says_how_to_run_its_session() -> None:
    with _sandbox(rounds=1) as sandbox:
        sandbox.serve(sandbox.interrupt)
        with pytest.raises(ConfigError, match="open another Sandbox for run or rounds"):
            sandbox.run()
        with pytest.raises(ConfigError, match="open another Sandbox for serve"):
            sandbox.serve(lambda: None)


def test_the_last_of_several_sandboxes_restores_the_garbage_collector() -> None:
    before = gc.get_threshold()
    first, second = _sandbox(), _sandbox()
    with contextlib.ExitStack() as later:
        with first:
            slow = gc.get_threshold()
            later.enter_context(second)
        assert gc.get_threshold() == slow != before
    assert gc.get_threshold() == before

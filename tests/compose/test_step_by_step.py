"""Each compose file started alone, in the wrong order and from either folder; then what an operator does with them.

On the smallest example, so that what takes time is containers, not training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.engine import EXAMPLES, Project, checkout, gateway, needed, run, until
from compose.rest import API, TOKEN, attached, committed, fetch, finished, get, present, start

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

ALLIANCE = "ac435faef-c2df-442e-b349-7f633d3d5523"
WAITS = "no connection to RabbitMQ at rabbitmq:5672, trying again: "
ASKS = "no account from http://accounts:8100 yet, trying again: "
SMALL = EXAMPLES[1:]
REPLACED = {
    "reducer": "docker compose -f reducer.yaml up -d --force-recreate reducer",
    "combiner": "docker compose -f combiner.yaml up -d --force-recreate combiner",
    "client": "EXAMPLE=numpy_regression docker compose -f mnist-clients.yaml up -d --force-recreate --scale client=2",
}


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Reducer, combiner and clients from deploy/compose, each started before anything that it needs; then the
    supporting services from the repository's root, as another project."""
    needed(*(f"fedmq-example-{example}" for example in SMALL))
    folder = checkout(tmp_path_factory.mktemp("clone"))
    outside = {
        "FEDN_PUBLISH": "0.0.0.0",
        "FEDN_ADMIN_TOKEN": TOKEN,
        "FEDN_MINIO_PUBLIC_URL": f"http://{gateway()}:9000",
    }
    settings = {"EXAMPLE": "numpy_regression", **outside}
    project = Project("fedmqtest", folder, settings)
    services = Project("fedmqtestroot", folder, {**settings, "FEDN_NETWORK": "fedmqtest"})
    for each in (services, project):
        each.remove()
    try:
        project.typed("cp .env.example .env")
        project.typed("docker compose -f combiner.yaml up -d")
        project.typed("docker compose -f mnist-clients.yaml up -d")
        project.typed("docker compose -f reducer.yaml up -d")
        for role, words in (("reducer", WAITS), ("combiner", WAITS), ("client", ASKS)):
            until(lambda role=role, words=words: words in project.logs(role), f"{role} names what it waits for")  # type: ignore[misc]
        services.typed("cp deploy/compose/.env .env", ".")
        services.typed("docker compose up -d", ".")
        attached(5)
        seeded(project, "numpy_regression")  # so that a start that names no seed finds one
        yield project
    finally:
        for each in (services, project):  # the network is of the project that began
            each.remove()


def seeded(project: Project, example: str) -> str:
    """The id of the example's first model, made in a container of its image."""
    where = "-e FEDN_REDUCER_HOST=reducer -e FEDN_ADMIN_TOKEN"
    command = f"docker compose -f mnist-clients.yaml run --rm -T {where} client seed --package "
    output = project.typed(f"EXAMPLE={example} {command}/examples/{example}/client")
    return next(line.split()[1] for line in output.splitlines() if line.startswith("seed "))


@pytest.mark.parametrize("example", SMALL)
def test_each_example_trains_in_containers(roles: Project, example: str) -> None:
    roles.typed(f"EXAMPLE={example} docker compose -f mnist-clients.yaml up -d --scale client=2")
    attached(2)
    seed = seeded(roles, example)
    document = finished(start(f"rounds=1&clients_required=2&model_id={seed}"))
    assert document["rounds_committed"] == 1


def test_a_name_that_is_no_example_is_refused_before_anything_is_installed(roles: Project) -> None:
    for name in ("nowhere", "mnist/client_torch"):
        # Compose 2 without buildx says so and ends with 0.
        output = roles.typed(f"EXAMPLE={name} docker compose -f mnist-clients.yaml build 2>&1 || true")
        assert f"examples/{name}/client/fedn.yaml" in output
        assert (
            subprocess.run(["docker", "image", "inspect", f"fedmq-example-{name}"], capture_output=True).returncode != 0
        )


def test_rabbitmqadmin_starts_a_session(roles: Project) -> None:
    [broker] = run("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.service=rabbitmq").split()
    body = {"kind": "start", "id": "by-rabbitmqadmin", "body": {"policy": {"rounds": 1}}}
    output = run(
        "docker",
        "exec",
        broker,
        "rabbitmqadmin",
        "--username=fedmq",
        f"--password={roles.secret('fedmq')}",
        "publish",
        f"exchange={ALLIANCE}.control",
        "routing_key=control.start",
        'properties={"content_type": "application/json"}',
        f"payload={json.dumps(body)}",
    )
    assert output == "Message published\n"
    until(lambda: get("/sessions/by-rabbitmqadmin")["rounds_committed"] == 1, "the session has run")


def test_a_message_from_the_management_page_starts_a_session(roles: Project) -> None:
    body = {"kind": "start", "id": "by-message", "body": {"policy": {"rounds": 1}}}
    message = {
        "properties": {"content_type": "application/json"},
        "routing_key": "control.start",
        "payload": json.dumps(body),
        "payload_encoding": "string",
    }
    url = f"http://localhost:15672/api/exchanges/%2F/{ALLIANCE}.control/publish"
    assert json.loads(fetch(url, body=message, account=f"fedmq:{roles.secret('fedmq')}")[1]) == {"routed": True}
    until(lambda: get("/sessions/by-message")["rounds_committed"] == 1, "the session has run")


def test_rabbitmq_has_the_smaller_log_and_buffers(roles: Project) -> None:
    [broker] = run("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.service=rabbitmq").split()
    environment = run("docker", "exec", broker, "rabbitmqctl", "environment")
    assert "{wal_max_size_bytes,16777216}" in environment
    assert "{recbuf,32768}" in environment


def test_a_client_of_another_network_trains_through_published_ports_with_its_own_account(roles: Project) -> None:
    roles.typed("EXAMPLE=numpy_regression docker compose -f mnist-clients.yaml up -d --scale client=1")
    attached(1)
    seed = seeded(roles, "numpy_regression")
    [accounts] = run("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.service=accounts").split()
    account = json.loads(run("docker", "exec", accounts, "fedmq", "account", "add", "far", "--json"))
    settings = {
        "EXAMPLE": "numpy_regression",
        "ALLIANCE_UID": account["ALLIANCE_UID"],
        "FEDN_AMQP_URL": account["FEDN_AMQP_URL"].replace("rabbitmq:5672", f"{gateway()}:5672"),
        "FEDN_CLIENT_NAME": account["FEDN_CLIENT_NAME"],
    }
    site = Project("fedmqtestsite", roles.folder, settings)
    site.remove()
    try:
        site.typed("docker compose -f mnist-clients.yaml up -d --scale client=1")
        until(lambda: len(present("clients", "far")) == 1, "it came")
        assert finished(start(f"rounds=1&clients_required=2&model_id={seed}"))["rounds_committed"] == 1
    finally:
        site.remove()


def test_stacked_files_replace_nothing_that_is_unchanged_and_build(roles: Project) -> None:
    before = roles.containers("reducer")
    roles.typed("docker compose -f reducer.yaml -f combiner.yaml up -d --build")
    assert len(before) == len(roles.containers("reducer")) == 1
    attached(1)


def test_every_role_runs_without_root_and_an_open_session_goes_on_after_a_stop(roles: Project) -> None:
    roles.typed("EXAMPLE=numpy_regression docker compose -f mnist-clients.yaml up -d --scale client=2")
    attached(2)
    session = start(f"rounds=5000&model_id={seeded(roles, 'numpy_regression')}")
    for role in ("client", "combiner", "reducer"):
        further(session, 1)
        container = roles.containers(role)[0]
        assert run("docker", "exec", container, "id", "-u") == "10001\n"
        run("docker", "stop", "--time", "10", container)
        assert run("docker", "inspect", "--format", "{{.State.ExitCode}}", container) == "0\n", role
        run("docker", "start", container)
        further(session, 2)
    stopped_with_each_round_once(session)


def test_a_standby_goes_on_with_a_session_whose_reducer_was_stopped(roles: Project) -> None:
    roles.typed("EXAMPLE=numpy_regression docker compose -f mnist-clients.yaml up -d --scale client=2")
    roles.typed("docker compose -f standby.yaml up -d")
    attached(2)
    session = start(f"rounds=5000&model_id={seeded(roles, 'numpy_regression')}")
    further(session, 1)
    [reducer], [standby] = roles.containers("reducer"), roles.containers("standby")
    read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/health').read().decode())"
    run("docker", "stop", "--time", "10", reducer)
    try:
        until(lambda: '"active"' in run("docker", "exec", standby, "python", "-c", read), "the standby takes over")
    finally:
        run("docker", "start", reducer)
    further(session, 2)
    roles.typed("docker compose -f standby.yaml rm --stop --force")
    stopped_with_each_round_once(session)


def test_newer_containers_take_over_one_by_one_under_an_open_session(roles: Project) -> None:
    """An upgrade: reducer, combiner and clients are replaced as new images would replace them. The session goes on from
    where it was and ends exactly: each round once, the last model the mean of its updates to the byte."""
    roles.typed("EXAMPLE=numpy_regression docker compose -f mnist-clients.yaml up -d --scale client=2")
    attached(2)
    seed = seeded(roles, "numpy_regression")
    session = start(f"rounds=5000&clients_required=2&timeout=60&retries=20&model_id={seed}")
    for service, command in REPLACED.items():
        before = set(roles.containers(service))
        further(session, 1)
        roles.typed(command)
        assert not before & set(roles.containers(service)), f"{service} was not replaced"
        further(session, 2)
    stopped_with_each_round_once(session)
    last = get(f"/sessions/{session}")["model"]
    command = str(Path(sys.executable).with_name("fedmq"))
    environment: Any = os.environ | {"FEDN_ADMIN_TOKEN": TOKEN}
    assert last in run(command, "model", "verify", last, "--url", API, env=environment)


def further(session: str, rounds: int) -> None:
    """Waits until the session has committed `rounds` more rounds. The reducer may be starting."""
    until(lambda: committed(session) >= 0, "the reducer answers")
    reached = committed(session) + rounds
    until(lambda: committed(session) >= reached, f"round {reached} of {session} is committed")


def stopped_with_each_round_once(session: str) -> None:
    """Stops a running session after its open round, and checks that every round was committed once."""
    assert get(f"/sessions/{session}")["state"] == "running"
    fetch(f"{API}/sessions/{session}/stop?when=after_round", body={})
    until(lambda: get(f"/sessions/{session}")["ended_at"] is not None, "the session has ended")
    rounds = [each["round"] for each in get(f"/sessions/{session}/rounds?limit=1000")["items"]]
    assert sorted(rounds) == list(range(1, committed(session) + 1))

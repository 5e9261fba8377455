"""The steps of FEDn's README on real containers; each promise that it makes has a test of that name.

Run with COMPOSE_TESTS=1, where there is a Docker engine with Compose and the images (`make up ARGS=--build` makes them);
else skipped, in CI too, which has no engine. With it, whatever lacks is a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from compose import engine
from compose.engine import Project, fetch, until
from fedmq.blobs.s3 import S3Blobs

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

API = "http://localhost:8090"
SEED = next((engine.ROOT / "examples" / "mnist" / "seed").iterdir())


@pytest.fixture(scope="module")
def alliance() -> Iterator[Project]:
    if not os.environ.get("COMPOSE_TESTS"):
        pytest.skip("takes twelve minutes, a Docker engine and the promised ports: set COMPOSE_TESTS=1")
    lacking = engine.missing()
    if lacking is not None:
        pytest.fail(lacking)
    public = f"http://{engine.gateway()}:9000"
    settings = {"FEDN_PUBLISH": "0.0.0.0", "FEDN_MINIO_PUBLIC_URL": public, "FEDN_PRESENCE": "3"}
    project = Project("fedmqtest", settings)
    project.down()
    try:
        project.up(client=5, combiner=1)
        until(lambda: len(present("clients")) == 5, "five clients are present")
        [seed] = project.containers("seed")
        subprocess.run(["docker", "wait", seed], check=True, capture_output=True)
        yield project
    finally:
        project.down()


def get(path: str) -> Any:
    status, text = fetch(f"{API}{path}")
    if status != 200:
        raise ValueError(text)
    return json.loads(text)


def present(kind: str) -> list[dict[str, Any]]:
    return [each for each in get(f"/{kind}")["items"] if each["state"] == "present"]


def models() -> dict[str, dict[str, Any]]:
    return {each["model"]: each for each in get("/models?limit=100")["items"]}


def finished(session: str, seconds: float = 300.0) -> dict[str, Any]:
    until(lambda: get(f"/sessions/{session}")["ended_at"] is not None, f"session {session} has ended", seconds)
    found: dict[str, Any] = get(f"/sessions/{session}")
    if found["state"] != "finished":
        told = [
            each for each in get(f"/events?session={session}&limit=500")["items"] if each["name"] != "task.progress"
        ]
        pytest.fail("\n".join([found["reason"], *(json.dumps(each) for each in told)]))
    return found


def accuracy(model: str) -> float:
    value = models()[model]["metrics"]["accuracy"]
    return float(value["mean"] if isinstance(value, dict) else value)


def test_pages_answer_on_the_promised_ports(alliance: Project) -> None:
    for port, good in ((8090, {200}), (5111, {200}), (8081, {200, 401}), (9000, {200, 403}), (15672, {200})):
        assert fetch(f"http://localhost:{port}/", accept="text/html")[0] in good, port


def test_curl_at_start_begins_training(alliance: Project) -> None:
    words = ["curl", "--silent", "--fail-with-body", "localhost:8090/start?rounds=1&id=by-curl"]
    answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert json.loads(answer)["session"] == "by-curl"
    assert finished("by-curl")["rounds_committed"] == 1


def test_basic_parameters_can_be_set_at_8090(alliance: Project) -> None:
    status, page = fetch(f"{API}/start", accept="text/html")
    assert status == 200
    for field in ("seed", "rounds", "timeout", "clients_required", "clients_requested"):
        assert f'name="{field}"' in page


def test_a_seed_uploaded_to_bucket_models_starts_by_its_name(alliance: Project) -> None:
    account = {name: alliance.environment.get(name) for name in ("FEDN_MINIO_ACCESS_KEY", "FEDN_MINIO_SECRET_KEY")}
    blobs = S3Blobs(
        "localhost:9000",
        account["FEDN_MINIO_ACCESS_KEY"] or "fedn_admin",
        account["FEDN_MINIO_SECRET_KEY"] or "password",
    )
    blobs.put("models/my-own-seed", SEED.read_bytes())
    assert fetch(f"{API}/start?model_id=my-own-seed&rounds=1&id=by-name")[0] == 202
    assert finished("by-name")["seed"] == "my-own-seed"


def test_the_seed_that_the_stack_makes_is_the_pre_generated_one(alliance: Project) -> None:
    [seed] = alliance.containers("seed")
    log = subprocess.run(["docker", "logs", seed], check=True, capture_output=True, text=True).stdout
    assert log.startswith(f"seed {SEED.name}\n")


def test_a_message_published_to_rabbitmq_starts_a_session(alliance: Project) -> None:
    body = {"kind": "start", "id": "by-message", "body": {"policy": {"rounds": 1}}}
    message = {
        "properties": {"content_type": "application/json"},
        "routing_key": "control.start",
        "payload": json.dumps(body),
        "payload_encoding": "string",
    }
    url = "http://localhost:15672/api/exchanges/%2F/fedmq.control/publish"
    assert json.loads(fetch(url, body=message, account="fedmq:password")[1]) == {"routed": True}
    until(lambda: get("/sessions/by-message")["session"] == "by-message", "the session is recorded")
    assert finished("by-message")["rounds_committed"] == 1


def test_clients_and_combiners_come_and_go_while_a_session_runs(alliance: Project) -> None:
    assert fetch(f"{API}/start?rounds=8&id=scaled")[0] == 202

    def committed() -> int:
        return int(get("/sessions/scaled")["rounds_committed"])

    until(lambda: committed() >= 1, "a first round with five clients")
    alliance.up(client=8, combiner=3)
    until(lambda: len(present("clients")) == 8 and len(present("combiners")) == 3, "eight clients, three combiners")
    grown = committed()
    until(lambda: committed() >= min(grown + 2, 7), "rounds with eight clients")
    alliance.up(client=3, combiner=2)
    until(lambda: len(present("clients")) == 3 and len(present("combiners")) == 2, "three clients, two combiners")
    document = finished("scaled", 500)
    assert document["rounds_committed"] == 8
    assert accuracy(document["model"]) > 0.95


def test_clients_are_spread_over_combiners_and_hold_different_parts(alliance: Project) -> None:
    clients = present("clients")
    assert len({each["ordinal"] for each in clients}) == len(clients)
    assert len({each["client"] for each in clients}) == len(clients)
    assert {each["combiner"] for each in clients} <= {each["combiner"] for each in present("combiners")}


def test_nested_averaging_gives_the_bytes_that_its_updates_give(alliance: Project) -> None:
    words = [str(engine.ROOT / ".venv" / "bin" / "fedmq"), "model", "verify", "last", "--url", API]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_progress_is_followed_in_the_dashboard_at_table_and_box(alliance: Project) -> None:
    for page in ("table", "box"):
        assert fetch(f"http://localhost:5111/{page}", accept="text/html")[0] == 200
    assert models(), "what the pages show is recorded"


def test_a_combiner_needs_no_tensorflow(alliance: Project) -> None:
    for image in ("fedmq-combiner", "fedmq-reducer", "fedmq-dashboard", "fedmq-client"):
        words = ["docker", "run", "--rm", "--entrypoint", "python", image, "-c", "import tensorflow"]
        assert "No module named 'tensorflow'" in subprocess.run(words, capture_output=True, text=True).stderr


def test_every_role_runs_without_root_and_ends_in_ten_seconds(alliance: Project) -> None:
    for service in ("client", "combiner", "dashboard", "reducer"):
        container = alliance.containers(service)[0]
        user = subprocess.run(["docker", "exec", container, "id", "-u"], check=True, capture_output=True, text=True)
        assert user.stdout.strip() == "10001"
        subprocess.run(["docker", "stop", "--time", "10", container], check=True, capture_output=True)
        state = ["docker", "inspect", "--format", "{{.State.ExitCode}}", container]
        assert subprocess.run(state, check=True, capture_output=True, text=True).stdout.strip() == "0"
    alliance.up(client=3, combiner=2)


def test_clients_of_another_network_train_through_published_ports(alliance: Project) -> None:
    address = engine.gateway()
    settings = {"FEDN_AMQP_URL": f"amqp://fedmq:password@{address}:5672/", "CLIENT_NAME_BASE": "far"}
    site = Project("fedmqtestsite", {**settings, "FEDN_PRESENCE": "3"}, ("mnist-clients",))
    try:
        site.up(client=2)
        until(lambda: len([each for each in present("clients") if each["client"].startswith("far-")]) == 2, "both came")
        assert fetch(f"{API}/start?rounds=1&clients_required=5&id=far")[0] == 202
        assert finished("far")["rounds_committed"] == 1
    finally:
        site.down()

"""`make up` with a certificate that its user made: https at port 8090, from the seed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import URLError

import pytest

from compose.engine import Project, checkout, needed, run, until
from compose.rest import API, fetch

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

URL = API.replace("http", "https")
SECURE = {"FEDN_REDUCER_TLS_CERT": "/certs/reducer.pem", "FEDN_REDUCER_TLS_KEY": "/keys/reducer-key.pem"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str]]:
    """What `make up` starts where the two settings are set, and the last line that it prints. The certificate is for
    `localhost` alone, as a reader makes it: those inside reach the reducer by another name."""
    needed("fedmq-example-numpy_regression")
    folder = checkout(tmp_path_factory.mktemp("clone"))
    project = Project("fedmqtest", folder, {"EXAMPLE": "numpy_regression", **SECURE})
    project.remove()
    try:
        names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
        files = "-keyout keys/reducer-key.pem -out certs/reducer.pem"
        project.typed(f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 {names} {files}")
        project.typed("chmod a+r keys/reducer-key.pem")
        yield project, project.typed("make up", ".").splitlines()[-1]
    finally:
        project.remove()


@pytest.fixture(scope="module")
def stack(started: tuple[Project, str]) -> Project:
    return started[0]


def test_make_up_seeds_over_https_and_the_command_that_it_prints_starts_a_session(started: tuple[Project, str]) -> None:
    stack, output = started
    assert "seed seed-" in stack.logs("seed")
    words, _, command = output.partition(": ")
    assert words == "Start a session with"
    assert command == f"curl --cacert deploy/compose/certs/reducer.pem '{URL}/start?rounds=5'"
    session = json.loads(stack.typed(command.replace("curl", "curl --silent --fail"), "."))["session"]
    until(lambda: document(session).get("rounds_committed") == 5, "the session has run")


def test_all_are_healthy_and_plain_http_is_not_spoken(stack: Project) -> None:
    for role in ("reducer", "combiner", "client", "dashboard"):
        for container in stack.containers(role):
            until(lambda container=container: health(container) == "healthy", f"{role} is healthy")  # type: ignore[misc]
    with pytest.raises((URLError, ConnectionError)):
        fetch(f"{API}/health")


def test_only_the_reducer_holds_the_key(stack: Project) -> None:
    assert run("docker", "exec", stack.containers("reducer")[0], "ls", "/keys") == "reducer-key.pem\n"
    for role in ("combiner", "client", "dashboard"):
        found = run("docker", "exec", stack.containers(role)[0], "sh", "-c", "ls /certs; ls -d /keys || true")
        assert found == "reducer.pem\n", role


def document(session: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(fetch(f"{URL}/sessions/{session}")[1])
    return found


def health(container: str) -> str:
    return run("docker", "inspect", "--format", "{{.State.Health.Status}}", container).strip()

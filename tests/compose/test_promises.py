"""What the README of FEDn promises of its containers: one test for each promise, on the stack that `make up` starts.

Each docstring says the promise, and what keeping it means here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.engine import ROOT, Project, checkout, needed, run, until
from compose.rest import API, attached, committed, fetch, finished, get, mean, models, present, start
from fedmq.blobs.s3 import S3Blobs
from fedmq_reducer.web.page.form import fields

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

SEED = next((ROOT / "examples" / "mnist" / "seed").iterdir())
FRAMEWORKS = ("tensorflow", "keras", "torch", "sklearn")

EACH = "for volume in minio mongo; do docker run --rm --user root --entrypoint tar"
BACK_UP = (
    f'{EACH} --volume fedmq_$volume:/from:ro --volume "$PWD/backup:/to"'
    " fedmq-client -C /from -czf /to/$volume.tar.gz .; done"
)
RESTORE = (
    f'{EACH} --volume fedmq_$volume:/to --volume "$PWD/backup:/from:ro"'
    " fedmq-client -C /to -xzf /from/$volume.tar.gz; done"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """`make up` as a reader types it in a clean clone: five MNIST clients, one combiner, a seed."""
    needed("fedmq-example-mnist")
    project = Project("fedmqtest", checkout(tmp_path_factory.mktemp("clone")), {})
    project.remove()
    try:
        output = project.typed("make up", ".")
        assert output.splitlines()[-1] == "Start a session with: curl 'localhost:8090/start?rounds=5'"
        attached(5)
        yield project
        project.typed("make down", ".")
        assert project.containers("reducer") == []
    finally:
        project.remove()


@pytest.fixture(scope="module")
def scaled(stack: Project) -> dict[str, Any]:
    """A session during which clients and combiners come and go, and that ends after a round of those who stay: its
    document. Combiners come first, as they are given the clients that come after them."""
    session = start("rounds=40&id=scaled")
    up = 'make up ARGS="--no-recreate --scale client={} --scale combiner={}"'
    for clients, combiners in ((5, 3), (8, 3), (3, 2)):
        grow(session, 1)
        stack.typed(up.format(clients, combiners), ".")
        attached(clients, combiners)
    until(lambda: planned()[-1]["clients"] == 3, "a round of three clients is planned", 200)
    grow(session, 1)
    fetch(f"{API}/sessions/{session}/stop?when=after_round", body={})
    until(lambda: get(f"/sessions/{session}")["ended_at"] is not None, f"session {session} has ended", 200)
    document: dict[str, Any] = get(f"/sessions/{session}")
    return document


def grow(session: str, rounds: int) -> None:
    """Waits for as many more rounds of a session."""
    reached = committed(session) + rounds
    until(lambda: committed(session) >= reached, f"round {reached} of {session} is committed", 200)


def planned() -> list[dict[str, Any]]:
    """Of the scaled session, in order: how many clients and combiners took part in each attempt at a round."""
    events = get("/events?session=scaled&name=round.planned&limit=500")["items"]
    return [each["data"] for each in reversed(events)]


@pytest.mark.parametrize("words", ["curl", "curl --request POST"])
def test_curl_at_start_begins_training(stack: Project, words: str) -> None:
    """`curl localhost:8090/start` starts a session: over plain http, by GET and by POST, with rounds, seed and timeout
    in the address; the answer is 202 with the session's id, at once and not when training is over."""
    began = time.monotonic()
    command = f"{words} --silent --write-out '\n%{{http_code}}' '{API}/start?rounds=1&model_id={SEED.name}&timeout=170'"
    text, _, code = run("bash", "-c", command).rpartition("\n")
    assert (code, time.monotonic() - began < 2) == ("202", True)
    document = finished(json.loads(text)["session"])
    assert (document["rounds_committed"], document["seed"]) == (1, SEED.name)
    assert document["policy"]["timeout"] == 170


def test_basic_parameters_are_set_in_the_page_at_8090(stack: Project) -> None:
    """A person sets a session's parameters in the browser: every key of the policy has an input there, the seed and the
    timeout too, the number of rounds is not limited to five, and what is typed is what runs."""
    status, page = fetch(f"{API}/start", accept="text/html")
    assert status == 200
    for field in fields():
        assert f'name="{field.name}"' in page
    form = "session=by-hand&rounds=6&timeout=175&clients_required=2&seed=" + SEED.name
    command = (
        f"curl --silent --header 'Accept: text/html' --write-out '%{{http_code}}' --data '{form}' {API}/page/start"
    )
    assert run("bash", "-c", command).endswith("303")
    until(lambda: committed("by-hand") >= 0, "the session is recorded")
    policy = get("/sessions/by-hand")["policy"]
    assert (policy["rounds"], policy["timeout"], policy["clients_required"]) == (6, 175, 2)
    assert policy["seed"] == SEED.name
    fetch(f"{API}/sessions/by-hand/stop", body={})


def test_clients_attach_ask_for_assignment_and_are_spread_over_combiners(
    stack: Project, scaled: dict[str, Any]
) -> None:
    """A client that is started attaches, gets a combiner, and asks again where there is none: at any time, before the
    first session (five were), during one (three came, five left), any number; and none of the combiners is left out."""
    assert next(each["clients"] for each in planned()) == 5
    assert {8, 3} <= {each["clients"] for each in planned()}
    assert (scaled["state"], scaled["reason"]) == ("stopped", "stopped after the round")
    assert scaled["rounds_committed"] >= 6
    clients = present("clients")
    assert len({each["ordinal"] for each in clients}) == len({each["client"] for each in clients}) == 3
    assert {each["combiner"] for each in clients} <= {each["combiner"] for each in present("combiners")}
    assert max(each["combiners"] for each in planned() if each["clients"] == 8) == 3


def test_a_combiner_is_attached_at_any_time(stack: Project, scaled: dict[str, Any]) -> None:
    """A further combiner is attached while sessions run as before the first: here one, then three, then two, in one
    session, and rounds were averaged over each number of them."""
    assert {1, 3} <= {each["combiners"] for each in planned()}
    assert len(present("combiners")) == 2


def test_nested_averaging_weighs_every_update_on_both_levels(stack: Project, scaled: dict[str, Any]) -> None:
    """Federated Averaging scales over combiners: a model is the weighted mean of all updates, whichever combiner folded
    them, to the byte; and it has learned."""
    output = run(str(Path(sys.executable).with_name("fedmq")), "model", "verify", scaled["model"], "--url", API)
    assert scaled["model"] in output
    # A session that is stopped does not wait for its last model's validations.
    assert mean(models()[scaled["model"]]["parent"], "accuracy") > 0.95


def test_progress_is_followed_in_the_dashboard_at_table_and_box(stack: Project, scaled: dict[str, Any]) -> None:
    """Mean metrics by model at /table and their distribution at /box are there with nothing to switch on: a session's
    models are in the table once it has run."""
    for page in ("table", "box"):
        assert fetch(f"http://localhost:5111/{page}", accept="text/html")[0] == 200
    rows = json.loads(fetch("http://localhost:5111/export/table.json?session=scaled")[1])
    assert models()[scaled["model"]]["parent"] in json.dumps(rows)


def test_a_seed_is_a_file_in_bucket_models_started_by_its_name_or_made_by_one_command(stack: Project) -> None:
    """A seed uploaded as an object of bucket `models`, by whatever client of S3, is started by the object's name, which
    need not be an id that was known before; and `make up` has made one itself, the pre-generated one."""
    assert f"seed {SEED.name}\n" in stack.logs("seed")
    S3Blobs("localhost:9000", "fedn_admin", stack.secret("minio")).put("models/my-own-seed", SEED.read_bytes())
    assert finished(start("model_id=my-own-seed&rounds=1"))["seed"] == "my-own-seed"
    assert models()["my-own-seed"]["parent"] is None


@pytest.mark.parametrize(
    ("service", "port", "good"),
    [
        ("the reducer's page", 8090, {200}),
        ("the dashboard", 5111, {200}),
        ("Mongo Express", 8081, {200, 401}),
        ("MinIO", 9000, {200, 403}),
        ("MinIO's console", 9001, {200}),
        ("RabbitMQ's page", 15672, {200}),
    ],
)
def test_pages_answer_on_the_promised_ports(stack: Project, service: str, port: int, good: set[int]) -> None:
    """Each service's page is at the port that the README names: 8090, 5111, 8081 and 9000; 9001 and 15672 are ours."""
    assert fetch(f"http://localhost:{port}/", accept="text/html")[0] in good, service


def test_a_laptop_is_enough_as_only_an_examples_clients_have_a_framework(stack: Project) -> None:
    """All of it runs on one machine: reducer, combiner and dashboard need numpy and no machine learning framework, and
    take less than 600 MB of memory together."""
    found = f"import importlib.util as u; print([n for n in {FRAMEWORKS} if u.find_spec(n)])"
    for role in ("combiner", "reducer", "dashboard", "client"):
        assert run("docker", "run", "--rm", "--entrypoint", "python", f"fedmq-{role}", "-c", found) == "[]\n", role
    format_ = "{{.MemUsage}}"
    running = [each for role in ("combiner", "reducer", "dashboard") for each in stack.containers(role)]
    used = run("docker", "stats", "--no-stream", "--format", format_, *running).splitlines()
    assert sum(megabytes(each.partition(" /")[0]) for each in used) < 600


def megabytes(text: str) -> float:
    """`1.5GiB`, `120MiB`, `900KiB`."""
    unit = {"G": 1024.0, "M": 1.0, "K": 1 / 1024}[text[-3]]
    return float(text[:-3]) * unit


def test_what_was_backed_up_is_there_again_where_all_volumes_were_lost(stack: Project) -> None:
    """Not a promise of FEDn: the commands of docs/how-to/back-up.md that save and restore models and records."""
    before = models()
    assert before
    volume = {"fedmq_$volume": f"{stack.name}_$volume"}
    stack.typed("make down", ".")
    stack.typed(BACK_UP, ".", instead=volume)
    stack.typed("make down ARGS=--volumes", ".")
    stack.typed("docker compose up --no-start")
    stack.typed(RESTORE, ".", instead=volume)
    stack.typed("make up", ".")
    attached(5)
    assert before.keys() <= models().keys()
    trained = next(each["model"] for each in before.values() if each["parent"] is not None)
    assert finished(start(f"rounds=1&model_id={trained}"))["rounds_committed"] == 1

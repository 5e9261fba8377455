"""Every command of the documents that needs a Docker engine is run by a test of this folder, which is named here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.blocks import blocks, pages

ROOT = Path(__file__).parents[2]
PROMISES = "tests/compose/test_promises.py::"
STEPS = "tests/compose/test_step_by_step.py::"
UP = f"{PROMISES}test_curl_at_start_begins_training"
ALONE = f"{STEPS}test_each_example_trains_in_containers"
HTTPS = "tests/compose/test_https.py::test_make_up_seeds_over_https_and_the_command_that_it_prints_starts_a_session"
REPLACED = f"{STEPS}test_newer_containers_take_over_one_by_one_under_an_open_session"
REVOKED = (
    "tests/compose/test_accounts.py::test_revoking_ends_the_account_at_once_and_it_comes_back_only_when_it_is_added"
)
SAVED = f"{PROMISES}test_what_was_backed_up_is_there_again_where_all_volumes_were_lost"
# The beginning of each command, and the test that runs it, on another example or project where that saves time.
RUN_BY = {
    "make up": UP,
    "make down": SAVED,
    "curl 'localhost:8090/start": UP,
    "cd deploy/compose": ALONE,
    "cp .env.example .env": ALONE,
    "docker compose up -d": ALONE,
    "docker compose -f reducer.yaml up -d --force-recreate": REPLACED,
    "docker compose -f combiner.yaml up -d --force-recreate": REPLACED,
    "docker compose -f mnist-clients.yaml up -d --force-recreate": REPLACED,
    "docker compose -f reducer.yaml up -d": ALONE,
    "docker compose -f standby.yaml up -d": f"{STEPS}test_a_standby_goes_on_with_a_session_whose_reducer_was_stopped",
    "docker compose -f combiner.yaml up -d": ALONE,
    "docker compose -f mnist-clients.yaml up -d": ALONE,
    "docker compose exec accounts": REVOKED,
    "rabbitmqadmin ": f"{STEPS}test_rabbitmqadmin_starts_a_session",
    "openssl req": HTTPS,
    "chmod a+r": HTTPS,
    "curl --cacert": HTTPS,
    "for volume in": SAVED,
    # The same tests, with the servers of an engine.
    "FEDMQ_TEST_SERVERS=containers": "tests/contracts/test_broker_rabbitmq.py::",
}


def commands() -> list[str]:
    """Returns the commands, with what a backslash continues."""
    found = [block for page in pages() for block in blocks(page) if block.reason == "needs a Docker engine"]
    return [line for block in found for line in re.sub(r"\\\n\s+", "", block.text).splitlines()]


def test_every_command_is_run_by_a_test() -> None:
    found = commands()
    assert len(found) > 15
    for command in found:
        assert command.startswith(tuple(RUN_BY)), command
    for beginning in RUN_BY:
        assert any(command.startswith(beginning) for command in found), f"no document has {beginning} any more"


@pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
def test_the_named_test_exists(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert not name or name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}

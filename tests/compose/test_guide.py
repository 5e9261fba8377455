"""Every command of docs/deployment.md is known here: with the test that runs it, or with why none does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")

PROMISES = "tests/compose/test_promises.py::"
STEPS = "tests/compose/test_step_by_step.py::"
UP = f"{PROMISES}test_curl_at_start_begins_training"
ALONE = f"{STEPS}test_each_example_trains_in_containers"
HTTPS = "tests/compose/test_https.py::test_make_up_seeds_over_https_and_the_command_that_it_prints_starts_a_session"
REPLACED = f"{STEPS}test_newer_containers_take_over_one_by_one_under_an_open_session"
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
    "docker compose -f combiner.yaml up -d": ALONE,
    "docker compose -f mnist-clients.yaml up -d": ALONE,
    "rabbitmqadmin ": f"{STEPS}test_rabbitmqadmin_starts_a_session",
    "openssl req": HTTPS,
    "chmod a+r": HTTPS,
    "curl --cacert": HTTPS,
    "for volume in": SAVED,
    "fedmq account ": "tests/system/test_distributed.py::"
    "test_a_client_with_an_account_of_its_own_trains_until_that_is_revoked",
}
# A host with an account, a package and data of its own, and RabbitMQ's own tool.
ELSEWHERE = ("pip install fedmq", "ALLIANCE_UID=…", "rabbitmqctl ")


def commands() -> list[str]:
    """The lines of indented blocks, with what a backslash continues; lists' own text is not code."""
    joined = re.sub(r"\\\n\s+", "", GUIDE)
    blocks = re.findall(r"(?<=\n\n)((?: {4,}\S.*\n)+)", joined)
    return [line.strip().partition("  #")[0].rstrip() for block in blocks for line in block.splitlines()]


def test_every_command_is_run_by_a_test_or_is_said_to_be_none_of_ours() -> None:
    known = (*RUN_BY, *ELSEWHERE)
    found = commands()
    assert len(found) > 15
    for command in found:
        assert command.startswith(known), command
    for beginning in known:
        assert any(command.startswith(beginning) for command in found), f"{beginning} is in the guide no more"


@pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
def test_the_named_test_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert not name or name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}

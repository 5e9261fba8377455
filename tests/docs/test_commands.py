"""Every command in the documents works as it is written there."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.blocks import REASONS, ROOT, blocks, pages, prose_of, text_of
from docs.reader import Reader, checkout
from fedmq.policies import checked_policy, with_settings
from fedmq_cli.app import app
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from support.tiers import require
from support.waiting import until

SERVERS = "docs/how-to/run-on-several-machines.md"
BACKUP = "docs/how-to/back-up.md"
RELEASE = "docs/release.md"
TYPED = [page for page in pages() if any(block.reason is None for block in blocks(page))]
pytestmark = pytest.mark.timeout(1200)
COMMAND = re.compile(r"^ {4,}(fedmq|make|docker|pip|python|curl|rabbitmqctl|kubectl|git|cd) ", re.MULTILINE)


@pytest.mark.parametrize("page", pages())
def test_a_block_that_is_not_run_has_a_known_reason(page: str) -> None:
    marks = {block.mark for block in blocks(page)}
    assert marks <= {"", "keeps running", *(f"not run: {reason}" for reason in REASONS)}


@pytest.mark.parametrize("page", pages())
def test_commands_stand_in_fences_where_they_are_found(page: str) -> None:
    assert not COMMAND.search(prose_of(page))
    # A comment that does not stand directly before a fence would mark nothing.
    marks = re.findall(r"^ *<!-- (?:not run: |keeps running)", text_of(page), re.MULTILINE)
    assert len(marks) == sum(bool(block.mark) for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in TYPED if page not in ("README.md", SERVERS, BACKUP, RELEASE)])
def test_the_commands_of_a_page_work_as_written(page: str, tmp_path: Path) -> None:
    with Reader(checkout(tmp_path)) as reader:
        reader.read(page)


def test_the_release_is_tried_without_making_it(tmp_path: Path) -> None:
    require(None if shutil.which("towncrier", path=str(Path(sys.executable).parent)) else "towncrier is not installed")
    with Reader(checkout(tmp_path)) as reader:
        (draft,) = reader.read(RELEASE)
    assert "9.9.9" in draft


@pytest.mark.system
def test_the_roles_run_as_plain_processes_and_are_backed_up_and_restored(
    tmp_path: Path, rabbitmq_server: RabbitmqServer, s3_server: S3Server, mongo_server: MongoServer
) -> None:
    host, _, port = s3_server.endpoint.partition(":")
    servers = {
        "FEDN_AMQP_URL": rabbitmq_server.url,
        "FEDN_RABBITMQ_MANAGEMENT_URL": rabbitmq_server.management_url,
        "FEDN_MINIO_HOST": host,
        "FEDN_MINIO_PORT": port,
        "FEDN_MINIO_ACCESS_KEY": s3_server.access_key,
        "FEDN_MINIO_SECRET_KEY": s3_server.secret_key,
        "FEDN_MONGO_HOST": mongo_server.host,
        "FEDN_MONGO_PORT": str(mongo_server.port),
        "FEDN_MONGO_CONNECTIONS": "2",
    }
    until(lambda: rabbitmq_server.manage("GET", "nodes")[0].get("fd_total"), "numbers of the broker")
    with Reader(checkout(tmp_path), servers) as reader:
        outputs = [reader.type(block) for block in (*blocks(SERVERS), *blocks(BACKUP)) if block.reason is None]
    assert any("session.finished" in output for output in outputs)
    assert "0 are gone or altered" in outputs[-1]


def _spans(page: str) -> Iterator[str]:
    """Yields what stands in backquotes in the text of a page."""
    yield from re.findall(r"`([^`\n]+)`", prose_of(page))


@pytest.mark.parametrize("page", [page for page in pages() if any(span.startswith("fedmq ") for span in _spans(page))])
def test_a_verb_and_an_option_in_the_text_exist(page: str) -> None:
    root = typer.main.get_command(app)
    for span in _spans(page):
        if re.match(r"fedmq [a-z]", span):
            command: Any = root
            _, *words = (word.strip("'\"") for word in span.split())
            # A word in capitals stands for any verb.
            while words and getattr(command, "commands", {}) and not words[0].isupper():
                command = command.commands.get(words.pop(0))
                assert command is not None, span
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if re.match("--[a-z]", word)} <= known | {"--help"}, span


ADDS_A_KEY = "docs/how-to/add-a-policy-key.md"


@pytest.mark.parametrize("page", [page for page in pages() if page != ADDS_A_KEY])
def test_a_setting_in_the_text_is_a_policy_key(page: str) -> None:
    for setting in re.findall(r"--set (\S+=[^\s`]+)", text_of(page).replace("KEY=VALUE", "")):
        checked_policy(with_settings({}, shlex.split(setting)))


def test_each_verb_of_make_exists() -> None:
    listed = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", listed, re.MULTILINE))
    for page in pages():
        lines = [line for block in blocks(page) for line in block.text.splitlines()]
        for line in [*lines, *_spans(page)]:
            if line.startswith("make "):
                _, *words = shlex.split(line, comments=True)
                assert {word for word in words if "=" not in word} <= targets, f"{page}: {line}"


def _code_lines(text: str) -> list[str]:
    """Returns the lines without indentation and comments, except empty ones."""
    return [line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line]


def test_an_excerpt_is_in_the_code() -> None:
    """What stands between two `...` are whole lines of one module, in their order."""
    modules = [_code_lines(path.read_text(encoding="utf-8")) for path in (ROOT / "services" / "reducer").rglob("*.py")]
    excerpts = [block for block in blocks("docs/architecture.md") if block.reason == "is an excerpt"]
    assert excerpts
    for block in excerpts:
        for part in block.text.split("...\n"):
            lines = _code_lines(part)
            rests = [iter(module) for module in modules]
            assert any(all(line in rest for line in lines) for rest in rests), f"{block}:\n{part}"


def test_a_block_that_is_not_run_parses() -> None:
    for block in (block for page in pages() for block in blocks(page) if block.reason is not None):
        if block.language != "python":
            assert subprocess.run(["bash", "-n", "-c", block.text]).returncode == 0, str(block)
        elif block.reason != "is an excerpt":
            ast.parse(block.text)

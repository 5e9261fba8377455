"""The runbook has a section for each alert, which the alert names, and whose commands exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
import yaml

from docs.blocks import ROOT, text_of
from fedmq_cli.app import app

PAGE = "docs/how-to/runbook.md"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in ALERTS]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text_of(PAGE), re.MULTILINE | re.DOTALL))
BUILT = typer.main.get_command(app)
PARTS = ["Means", "Confirm", "Do", "Over when"]


def test_there_is_a_section_for_each_alert_in_their_order() -> None:
    assert len(NAMES) == 16
    assert [*SECTIONS] == NAMES


@pytest.mark.parametrize("alert", NAMES)
def test_a_section_says_what_it_means_how_to_confirm_it_what_to_do_and_when_it_is_over(alert: str) -> None:
    assert re.findall(r"^\*\*([\w ]+):\*\*", SECTIONS[alert], re.MULTILINE) == PARTS


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_names_its_section(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook"] == f"{PAGE}#{rule['alert'].lower()}"


@pytest.mark.parametrize("alert", NAMES)
def test_a_section_has_a_verb_of_fedmq_and_each_of_its_verbs_parses(alert: str) -> None:
    spans = re.findall(r"`fedmq ([a-z][^`]*)`", SECTIONS[alert])
    assert spans
    for span in spans:
        command: Any = BUILT
        words = span.split()
        while getattr(command, "commands", None):
            command = command.commands[words.pop(0)]
        # A word in capitals stands for a name of the reader's.
        context = command.make_context("fedmq", words, resilient_parsing="--help" in words)
        context.close()

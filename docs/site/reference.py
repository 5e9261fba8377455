"""Writes the pages of `docs/reference` from the code that they describe.

    python docs/site/reference.py

A test compares the pages with what this program writes, so a changed option, key or event needs a new run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from fedmq.process.settings import variables
from fedmq.web.families import PROCESS, UNSETTLED, Family
from fedmq_cli.app import EXIT_CODES, app
from fedmq_combiner import metrics as combiner
from fedmq_reducer import metrics as reducer
from fedmq_schemas.policy import Policy, Section
from fedmq_schemas.records.events import EVENT_NAMES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Written by docs/site/reference.py: edit the code that it reads. -->\n\n"

TRAINER = ROOT / "services/client/fedmq_client/trainer.py"
TORCH = ROOT / "services/client/fedmq_client/torch.py"

ROLES = {"reducer": reducer.FAMILIES, "combiner": combiner.FAMILIES, "client": (UNSETTLED,)}
"""The metrics of each role beside those of every process."""

RUN_FILES = (
    ("records.db", "the records: sessions, rounds, models, clients, events (SQLite; `-wal` and `-shm` belong to it)"),
    ("MODEL.safetensors", "the final model, whole, if only a part of its tensors is shared"),
    (
        "blobs/models/MODEL",
        "a model as safetensors, or its shared tensors; a committed one is named `SESSION-ROUND-HASH`",
    ),
    ("blobs/updates/MODEL/base-*", "the tensors of a first model that are not shared: frozen and local ones"),
    ("blobs/updates/SESSION/ROUND/CLIENT/HASH", "a client's update: its weight delta as safetensors"),
    ("blobs/updates/SESSION/ROUND/partial-*", "a combiner's sum of updates"),
    ("blobs/updates/SESSION/ROUND/ledger-*", "the ledger of a partial: which updates are in it, with which weights"),
    ("blobs/updates/SESSION/ROUND/ledger.json", "the ledger of the round: every client with its outcome and reason"),
    ("blobs/updates/SESSION/ROUND/optimizer-*", "the server optimizer's state after the round"),
    ("blobs/updates/SESSION/ROUND/checkpoint-*", "what a combiner has folded of a round that is still open"),
    ("blobs/.partial", "blobs that are being written"),
    ("clients/CLIENT/finished", "updates of the open round, kept to be sent again, and the client's private state"),
    (
        "clients/CLIENT/personal/SESSION.ROUND.safetensors",
        "local tensors and `task.state` after the client's last training",
    ),
    ("clients/CLIENT/personal/SESSION.ROUND.json", "what that file holds: session, package, model, names and shapes"),
    ("clients/CLIENT/personal/HASH.safetensors", "the model and the base that make a whole model of it"),
    (
        "clients/CLIENT/output.log",
        "what the client's trainer prints, writes to standard error or logs; above 1 MB it becomes `output.log.1`",
    ),
    ("clients/CLIENT/models", "models that the client has fetched"),
    ("lock", "held by the sandbox that uses the folder"),
    (
        "sandbox.json",
        "options of the run, of which only the rounds may grow, and how many rounds were asked for each time",
    ),
    ("sandbox.log", "warnings and errors"),
)
"""Files of a sandbox's state folder. Words in capitals stand for names."""

POLICY = """\
# Policy keys

A policy decides everything about a session. `fedmq session template` prints a session file with all keys; `--set KEY=VALUE`
sets one on the command line; `POST /start` takes them as JSON. Times are seconds. Counts of clients are totals over the
alliance.

"""
SETTINGS = """\
# Settings

Environment variables, or lines of a file `.env` in the current folder. The environment wins over the file. An empty value
counts as unset. A wrong value ends the process at its start, with all wrong values listed. `control` is every command that
calls the REST API; `compose` is read by the compose files only. `fedmq settings ROLE` shows the same for one role, with the
value that each setting has here, and `fedmq doctor ROLE` tries them.

`NAME_FILE` names a file that holds the secret `NAME`: one line, of which a line break at the end does not count. The file
belongs to the account of the process, with mode 600 or 400. A process refuses to start if both variables are given, or if
the file is missing, unreadable or empty. Trainers, and what their packages install, get an environment without secrets.

"""
EVENTS = """\
# Events

Events appear in `fedmq events`, on the dashboard, in the records, and on the exchange `event` with the routing key
`event.SESSION.NAME`. `data` holds the fields that the meaning names.

"""
FILES = """\
# Files of a run

A sandbox keeps everything in its `--state-dir`, or in `fedmq-runs/TIME`. Delete the folder to delete the run. In a
distributed alliance the folders below `blobs` are the buckets `models` and `updates` of the S3 store, the records are in
MongoDB, and each process has a state folder of its own (`FEDN_STATE_DIR`).

With `tensors.share`, `tensors.frozen` or `tensors.local` in the policy, only the shared tensors travel:

- The updates, and the models of the session below `blobs/models`, hold the shared tensors alone. Do not take such a file
  as a seed: name the folder of the run.
- The other tensors, frozen and local ones, are in `base-*`. It is written once for all sessions that share the same
  tensors of the same first model.
- `MODEL.safetensors`, `--out`, `fedmq model get` and `Sandbox.weights` join both to a whole model.
- Local tensors are everywhere those of the seed. Each client has its own: see
  [personal models](../how-to/keep-personal-models.md).

"""
METRICS = """\
# Metrics

In Prometheus's text format, on two kinds of endpoints. No name is on both. [Monitor an alliance](../how-to/monitor.md) says
what to scrape, and has alerts and a dashboard.

## Of a process

`/metrics` on `FEDN_HEALTH_PORT` of every role. These numbers are those of one process: sum them over processes.

"""
ALLIANCE = """\

## Of the alliance

`/metrics` on the port of the REST API (8090). These numbers are those of the whole alliance, and every reducer serves all of
them: use `max`, never `sum`, over reducers. Gauges are read from the records. Counters and the histogram count what this
server has observed since it started.

"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def policy_page() -> str:
    """Returns the page of policy keys: name, type, default, meaning."""
    return POLICY + table(("key", "values", "default", "meaning"), _keys(Policy, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _keys(inner, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None else json.dumps(default)
        yield f"`{prefix}{name}`", _values(schema["properties"][name]), f"`{shown}`", field.description or ""


def _values(schema: Mapping[str, Any]) -> str:
    """Returns the values that a JSON Schema allows, in a few words."""
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind = {"object": "map", "array": "list", "null": "none", "string": "text"}.get(schema.get("type", ""), "")
    bounds = [
        f"{sign} {schema[word]}"
        for word, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if word in schema
    ]
    return " ".join([kind or str(schema.get("type", "any")), *bounds])


def settings_page() -> str:
    """Returns the page of environment variables, by role."""
    rows = [
        (f"`{each.name}`", f"`{each.default}`" if each.default else "", ", ".join(each.roles), each.description)
        for each in variables()
    ]
    return SETTINGS + table(("variable", "default", "read by", "meaning"), rows)


def events_page() -> str:
    """Returns the page of events."""
    return EVENTS + table(("event", "meaning"), [(f"`{name}`", meaning) for name, meaning in EVENT_NAMES.items()])


def metrics_page() -> str:
    """Returns the page of metrics."""
    families = dict.fromkeys(PROCESS, "all")
    for family in dict.fromkeys(family for found in ROLES.values() for family in found):
        families[family] = ", ".join(role for role, found in ROLES.items() if family in found)
    text = METRICS + table(
        ("metric", "type", "labels", "roles", "meaning"),
        [(*_family(each), roles, each.help) for each, roles in families.items()],
    )
    return (
        text
        + ALLIANCE
        + table(("metric", "type", "labels", "meaning"), [(*_family(each), each.help) for each in reducer.ALLIANCE])
    )


def _family(family: Family) -> tuple[str, str, str]:
    return f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels)


def files_page() -> str:
    """Returns the page of files of a run."""
    return FILES + table(("file or folder", "content"), [(f"`{name}`", meaning) for name, meaning in RUN_FILES])


def trainer_page() -> str:
    """Returns the page of the trainer API, from the docstrings of its module."""
    tree = ast.parse(TRAINER.read_text(encoding="utf-8"))
    summary, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    text = f"# Trainer API\n\n{summary}\n{_fenced(rest)}\n"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in ("Client", "Task", "Cancelled"):
            text += f"\n## `{node.name}`\n\n{ast.get_docstring(node)}\n"
            rows = [(f"`{name}`", words) for name, words in _members(node)]
            text += "\n" + table(("name", "meaning"), rows) if rows else ""
    tree = ast.parse(TORCH.read_text(encoding="utf-8"))
    summary, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    text += f"\n## `fedmq_client.torch`\n\n{summary}\n{_fenced(rest)}\n\n"
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    rows = [
        (f"`{node.name}({ast.unparse(node.args)})`", " ".join((ast.get_docstring(node) or "").split()))
        for node in functions
    ]
    return text + table(("function", "meaning"), rows)


def _fenced(text: str) -> str:
    """Returns the text with its indented block of code as a fenced one."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        indented = line.startswith("    ")
        if indented != inside:
            lines.append("```text" if indented else "```")
            inside = indented
        lines.append(line.removeprefix("    ") if indented else line)
    return "\n".join(lines)


def _members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yields the public attributes, properties and methods of a class with what their docstrings say."""
    bodies = [node.body]
    bodies += [each.body for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    for body in reversed(bodies):
        for number, each in enumerate(body, start=1):
            if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                words = ast.get_docstring(each) or ""
                is_property = bool(each.decorator_list)
                arguments = "" if is_property else f"({ast.unparse(each.args).removeprefix('self').removeprefix(', ')})"
                yield each.name + arguments, " ".join(words.split())
            elif isinstance(each, ast.Assign | ast.AnnAssign):
                target = each.targets[0] if isinstance(each, ast.Assign) else each.target
                name = ast.unparse(target).removeprefix("self.")
                if not name.startswith("_"):
                    yield name, " ".join((ast.get_docstring(ast.Module(body[number : number + 1], [])) or "").split())


def cli_page() -> str:
    """Returns the page of the command: every verb with its arguments and options."""
    settings = "[Settings](settings.md) lists the variables that `fedmq run` reads."
    text = f"# Command line\n\n`fedmq VERB --help` shows the same. {settings} {EXIT_CODES}\n"
    return text + "".join(_verbs(typer.main.get_command(app), "fedmq"))


def _verbs(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for child in sorted(children):
        yield from _verbs(children[child], f"{name} {child}")
    if children:
        return
    arguments = "".join(f" {_metavar(each)}" for each in command.params if each.param_type_name == "argument")
    yield f"\n## {name}\n\n`{name}{arguments}`\n\n{(command.help or '').strip()}\n"
    rows = [
        (f"`{' '.join([*each.opts, *each.secondary_opts])}`", _words(each))
        for each in command.params
        if each.name != "help" and not getattr(each, "hidden", False)
    ]
    if rows:
        yield "\n" + table(("argument or option", "meaning"), rows)


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _words(parameter: Any) -> str:
    words = (getattr(parameter, "help", None) or "").strip()
    default = parameter.default
    shown = default is not None and not callable(default) and default not in ((), [], False, "")
    notes = ["required"] * bool(parameter.required) + [f"default: `{default}`"] * (shown and not parameter.required)
    return f"{words} ({'; '.join(notes)})" if notes else words


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "events.md": events_page,
    "files.md": files_page,
    "metrics.md": metrics_page,
    "policy.md": policy_page,
    "settings.md": settings_page,
    "trainer.md": trainer_page,
}


def main() -> None:
    """Writes all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(MADE + page(), encoding="utf-8")


if __name__ == "__main__":
    main()

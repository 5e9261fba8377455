"""The rules that keep this repository easy to find one's way in. Each message lists the offenders and what to do."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]
MOST_LINES = 350
MOST_MODULES = 15

OURS = {Path(package).name for package in PACKAGES}

_ALIAS = "aliases of what each side reads or writes, between packages that do not import each other"
SAME_NAME_ALLOWED = {
    "Callback": "a function without arguments, in two packages of which neither is for the other",
    "ClientName": "the same parameter, described once for the REST API and once for the command",
    "Document": _ALIAS,
    "Meta": _ALIAS,
    "State": "the optimizer's arrays, as its literature calls them, and the states of the client's core",
    "Topic": "what a dashboard's feed reports, and what its page listens to, which is more",
}
"""Name → why it may be defined more than once. Rather rename one than add to this list."""

Trees = dict[Path, ast.Module]


def modules(folder: Path) -> list[Path]:
    """Returns the Python files below `folder`, without the templates, which are files of users."""
    return sorted(path for path in folder.rglob("*.py") if "templates" not in path.relative_to(folder).parts)


@cache
def source(root: Path) -> Trees:
    """Returns the syntax tree of each module that is shipped, by its path below `root`."""
    paths = [path for package in PACKAGES for path in modules(root / package)]
    return {path.relative_to(root): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def type_names(tree: ast.Module) -> Iterator[str]:
    """Yields the names of all classes, and of the type aliases that stand outside of functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign) and not _is_type_variable(node.value):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and re.match(r"_?[A-Z][A-Za-z0-9]*[a-z]", target.id):
                yield target.id


def _is_type_variable(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("TypeVar", "ParamSpec")
    )


def names_twice(root: Path) -> list[str]:
    """One name means one thing in the whole of the source: rename all but one, or merge them."""
    defined: dict[str, list[str]] = defaultdict(list)
    for path, tree in source(root).items():
        for name in type_names(tree):
            defined[name].append(str(path))
    return [
        f"{name}: {', '.join(places)}"
        for name, places in sorted(defined.items())
        if len(places) > 1 and name not in SAME_NAME_ALLOWED
    ]


def private_names_used_elsewhere(root: Path) -> list[str]:
    """A name that begins with `_` belongs to its package: make it public there, or move its user."""
    return [
        f"{path}:{line} {name}"
        for path, tree in source(root).items()
        for line, name in private_names(tree, _package(path))
    ]


def private_names(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Yields line and name of what is private and imported from, or accessed in, another package than `package`."""
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if _is_other(node.module, package) and any(map(_is_private, [alias.name, *node.module.split(".")])):
                    yield node.lineno, f"{node.module}.{alias.name}"
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported[alias.asname or _top(alias.name)] = alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _is_private(node.attr):
            origin = imported.get(node.value.id)
            if origin is not None and _is_other(origin, package):
                yield node.lineno, f"{origin}.{node.attr}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _is_other(module: str, package: str) -> bool:
    """Returns whether `module` is of another of our packages."""
    return _top(module) in OURS - {package}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _package(path: Path) -> str:
    (package,) = (package for package in PACKAGES if path.is_relative_to(package))
    return Path(package).name


def long_modules(root: Path) -> list[str]:
    """A module holds one concept in at most 350 lines: divide it, or delete what does not earn its place."""
    paths = [path for folder in [*PACKAGES, "tests"] for path in modules(root / folder)]
    lengths = {path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MOST_LINES]


def crowded_folders(root: Path) -> list[str]:
    """A folder holds at most 15 modules: give those that belong together a folder of their own."""
    counts: dict[Path, int] = defaultdict(int)
    for path in source(root):
        counts[path.parent] += path.name != "__init__.py"
    return [f"{folder}: {count} modules" for folder, count in sorted(counts.items()) if count > MOST_MODULES]


def folders_without_a_docstring(root: Path) -> list[str]:
    """A folder's `__init__.py` says in its docstring what the folder holds: write it."""
    trees = source(root)
    folders = sorted({path.parent for path in trees})
    return [
        str(folder)
        for folder in folders
        if (tree := trees.get(folder / "__init__.py")) is None or not ast.get_docstring(tree)
    ]


Rule = Callable[[Path], list[str]]
RULES: tuple[Rule, ...] = (
    names_twice,
    private_names_used_elsewhere,
    long_modules,
    crowded_folders,
    folders_without_a_docstring,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    offenders = rule(ROOT)
    assert not offenders, "\n".join([rule.__doc__ or "", *offenders])


def test_each_exception_is_needed() -> None:
    names = [name for tree in source(ROOT).values() for name in type_names(tree)]
    assert [name for name in SAME_NAME_ALLOWED if names.count(name) < 2] == []


CORE = "services/client/fedmq_client/core.py"
OTHER = "services/reducer/fedmq_reducer/core.py"
FOLDER = "shared/fedmq/folder"

BREACHES: list[tuple[Rule, dict[str, str], str]] = [
    (names_twice, {CORE: "class Phase: ...", OTHER: "class Phase: ..."}, f"Phase: {OTHER}, {CORE}"),
    (names_twice, {CORE: "class Phase: ...", OTHER: "Phase = dict[str, int]"}, f"Phase: {OTHER}, {CORE}"),
    (names_twice, {CORE: "class Phase: ...", OTHER: "Phase: type = dict"}, f"Phase: {OTHER}, {CORE}"),
    (private_names_used_elsewhere, {CORE: "from fedmq.codec import _kind"}, f"{CORE}:1 fedmq.codec._kind"),
    (private_names_used_elsewhere, {CORE: "from fedmq._codec import kind"}, f"{CORE}:1 fedmq._codec.kind"),
    (private_names_used_elsewhere, {CORE: "from fedmq import codec\ncodec._kind()"}, f"{CORE}:2 fedmq.codec._kind"),
    (long_modules, {CORE: "x = 1\n" * 351}, f"{CORE}: 351 lines"),
    (long_modules, {"tests/test_core.py": "x = 1\n" * 351}, "tests/test_core.py: 351 lines"),
    (crowded_folders, {f"{FOLDER}/m{n}.py": "" for n in range(16)}, f"{FOLDER}: 16 modules"),
    (folders_without_a_docstring, {f"{FOLDER}/m.py": ""}, FOLDER),
    (folders_without_a_docstring, {f"{FOLDER}/__init__.py": "import ssl"}, FOLDER),
]

KEPT: list[tuple[Rule, dict[str, str]]] = [
    (names_twice, {CORE: "class Phase: ...", "shared/fedmq/templates/trainer.py": "class Phase: ..."}),
    (names_twice, {CORE: "LIMIT = 1", OTHER: "LIMIT = 2"}),
    (private_names_used_elsewhere, {CORE: "from fedmq_client.role import _kind\nself._kind = _kind.__name__"}),
    (private_names_used_elsewhere, {CORE: "import os\nos._exit(1)"}),
    (names_twice, {CORE: "Value = TypeVar('Value')", OTHER: "Value = TypeVar('Value')"}),
    (long_modules, {CORE: "x = 1\n" * 350}),
    (crowded_folders, {f"{FOLDER}/{name}.py": "" for name in ("__init__", *map(str, range(15)))}),
    (folders_without_a_docstring, {f"{FOLDER}/__init__.py": '"""Holds what is folded."""'}),
]


def plant(root: Path, files: dict[str, str]) -> None:
    """Writes files, by their paths below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(("rule", "files", "offender"), BREACHES)
def test_a_breach_is_found_and_its_place_is_named(
    rule: Rule, files: dict[str, str], offender: str, tmp_path: Path
) -> None:
    plant(tmp_path, files)
    assert rule(tmp_path) == [offender]


@pytest.mark.parametrize(("rule", "files"), KEPT)
def test_what_keeps_the_rule_is_no_offender(rule: Rule, files: dict[str, str], tmp_path: Path) -> None:
    plant(tmp_path, files)
    assert rule(tmp_path) == []

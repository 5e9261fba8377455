"""Gives one package at a time the process's imports and its current folder, as if Python had been started in it.

A trainer's module has the name under which the package's folder, first on `sys.path`, offers it: `trainer.py` is
`trainer`, `src/train.py` is `src.train`. So child processes can import it, and pickled classes of it can be read there.
The modules of another package in the same process are put aside meanwhile, as both may have a `utils`.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

_active: list[Path] = []
"""The package whose modules are in `sys.modules`; at most one."""
_aside: dict[Path, dict[str, ModuleType]] = {}
"""The modules of each other package."""


def bring_modules(folder: Path) -> None:
    """Makes the modules of this package those that `import` finds, and puts those of the last package aside."""
    if _active == [folder]:
        return
    for other in _active:
        _aside[other] = {name: sys.modules.pop(name) for name in list(_names(other))}
    _active[:] = [folder]
    sys.modules.update(_aside.pop(folder, {}))


def forget(folder: Path) -> None:
    """Makes the next import of this package's modules read their files anew."""
    _aside.pop(folder, None)
    for name in list(_names(folder)):
        del sys.modules[name]


def enter(folder: Path) -> None:
    """Makes the folder current, and first on the path of this process and of its children."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def run_file(folder: Path, path: Path) -> ModuleType:
    """Runs a package's file as the module that it is in the package's folder, and returns it. Exceptions pass."""
    importlib.invalidate_caches()  # the folder may be newer than what Python remembers of it
    name = _name(folder, path)
    if name.rpartition(".")[0]:
        importlib.import_module(name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _name(folder: Path, path: Path) -> str:
    """Returns the module's name, or a private one if that name is another module's, such as `code` or `random`."""
    parts = path.relative_to(folder).with_suffix("").parts
    found = sys.modules.get(parts[0])
    is_taken = parts[0] in sys.stdlib_module_names or (found is not None and not _is_of(folder, parts[0], found))
    if is_taken or any("." in part for part in parts):
        return f"fedmq_package_{sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    return ".".join(parts)


def _names(folder: Path) -> Iterator[str]:
    for name, module in sys.modules.items():
        if _is_of(folder, name.partition(".")[0], module):
            yield name


def _is_of(folder: Path, top: str, module: object) -> bool:
    """Returns whether the folder, being on `sys.path`, offers this module: not so what an environment within it holds."""
    place = getattr(module, "__file__", None)
    if place is None:  # a folder without __init__.py
        place = next(iter(getattr(module, "__path__", ())), None)
    start = os.path.join(folder, top)
    return (isinstance(place, str) and place.startswith((start + ".", start + os.sep))) or place == start

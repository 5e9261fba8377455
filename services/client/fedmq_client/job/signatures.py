"""Refuses a trainer with a method that can't be called as FedMQ calls it, before any training begins."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmq_client.job.place import own_path
from fedmq_client.packages.package import PackageError

ARGUMENTS = {"train": ("weights", "task"), "validate": ("weights", "task"), "init": ()}


def check_signatures(folder: Path, trainer: Any) -> None:
    """Raises PackageError, with the method's place and the right signature, if a call of it would be a TypeError.

    What Python can't state a signature of, such as a function of C code, is accepted.
    """
    for name, arguments in ARGUMENTS.items():
        method = getattr(trainer, name, None)
        if not callable(method):
            continue
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):
            continue
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise PackageError(_fault(folder, name, arguments, method)) from error


def _fault(folder: Path, name: str, arguments: tuple[str, ...], method: Callable[..., Any]) -> str:
    function = inspect.unwrap(getattr(method, "__func__", method))
    code = getattr(function, "__code__", None)
    place = "" if code is None else f"{_file(folder, code.co_filename)}:{code.co_firstlineno}: "
    written = tuple(inspect.signature(function).parameters)
    right = ("self", *arguments) if inspect.ismethod(method) else arguments
    how = f"with {' and '.join(arguments)}" if arguments else "without arguments"
    return f"{place}{_call(name, written)} can't be called {how}: write {_call(name, right)}"


def _file(folder: Path, path: str) -> str:
    return own_path(folder, path) or os.path.basename(path)


def _call(name: str, parameters: tuple[str, ...]) -> str:
    return f"{name}({', '.join(parameters)})"

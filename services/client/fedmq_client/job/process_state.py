"""The state of this process that a trainer's code may change, and that code outside of it must find unchanged.

`read` returns the state, `differences` compares two states, and `write` makes the process have one again. Not covered:
memory (patched functions, attributes of classes), threads, and open files above standard error. In a thread of a host, such
as that of a sandbox without workers, only what FedMQ itself changes for a trainer is covered: the host may change the rest.
"""

import contextlib
import locale
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

State = Mapping[str, Any]

ENVIRONMENT = "environment variables"
FOLDER = "current folder"
_UNKNOWN = "unknown"
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD") if hasattr(signal, name)]
_FRESH_TORCH = ("torch.float32", "cpu", True, False, False, False, False, "highest")


class _Part(NamedTuple):
    """One part of the state. `write` may raise or have no effect: the part can't be restored then."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def read() -> State:
    """Returns the state. Values are compared with `==`."""
    is_hosted = threading.current_thread() is not threading.main_thread()
    return {name: _value(_PARTS[name]) for name in (_CHANGED_BY_FEDMQ if is_hosted else _PARTS)}


def differences(before: State, after: State) -> State:
    """Returns what of `after` is known and differs, for `write`: of environment variables only those that do, or None."""
    found = {name: after[name] for name in after if after[name] not in (before[name], _UNKNOWN)}
    if ENVIRONMENT in found:
        old, new = before[ENVIRONMENT], after[ENVIRONMENT]
        found[ENVIRONMENT] = {_decoded(key): _decoded(new.get(key)) for key, _ in old.items() ^ new.items()}
    return found


def write(changes: State) -> None:
    """Makes the process have these values, as far as it can."""
    for name, value in changes.items():
        with contextlib.suppress(Exception):
            _PARTS[name].write(value)


def restore(own: State) -> list[str]:
    """Makes the process have the state `own` again. Returns the names of the parts that can't be restored."""
    changes = differences(read(), own)
    write(changes)
    return [name for name, value in changes.items() if name != ENVIRONMENT and _value(_PARTS[name]) != value]


def _value(part: _Part) -> Any:
    try:
        return part.read()
    except Exception:  # such as the name of a current folder that was deleted
        return _UNKNOWN


_last_umask = [-1]


def _read_umask() -> int:
    # The system returns a umask only in exchange for another one. Setting the expected one changes nothing meanwhile.
    expected = _last_umask[0] if _last_umask[0] >= 0 else 0o077
    mask = os.umask(expected)
    if mask != expected:
        os.umask(mask)
    _last_umask[0] = mask
    return mask


def _read_environment() -> Any:
    # Its own copy decodes each variable, which takes longer than many a job's whole state.
    return dict(getattr(os.environ, "_data"))  # noqa: B009 a private name: typeshed lacks it


def _decoded(text: Any) -> Any:
    return os.fsdecode(text) if isinstance(text, bytes) else text


def _write_environment(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "TZ" in changes and hasattr(time, "tzset"):
        time.tzset()


def _write_path(value: list[str]) -> None:
    sys.path[:] = value


def _read_signals() -> Any:
    handlers = tuple(signal.getsignal(number) for number in _SIGNALS)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "pthread_sigmask") else set()
    alarm = hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0
    return handlers, frozenset(blocked), alarm


def _write_signals(value: Any) -> None:
    handlers, blocked, alarm = value
    if not alarm and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


_FRESH_LOGGER = (logging.NOTSET, False, True, ())


def _loggers() -> dict[str, logging.Logger]:
    """Returns the root logger, by the name `root`, and FedMQ's."""
    root = logging.getLogger()
    found = {name: each for name, each in list(root.manager.loggerDict.items()) if name.startswith("fedmq")}
    return {"root": root} | {name: each for name, each in found.items() if isinstance(each, logging.Logger)}


def _read_logging() -> Any:
    found = {
        name: (each.level, each.disabled, each.propagate, tuple(each.handlers)) for name, each in _loggers().items()
    }
    changed = {name: settings for name, settings in found.items() if settings != _FRESH_LOGGER}
    return logging.getLogger().manager.disable, changed


def _write_logging(value: Any) -> None:
    disable, changed = value
    logging.disable(disable)
    for name, logger in _loggers().items():
        level, logger.disabled, logger.propagate, handlers = changed.get(name, _FRESH_LOGGER)
        logger.setLevel(level)
        logger.handlers[:] = handlers


def _write_warnings(value: Any) -> None:
    filters, show = value
    warnings.resetwarnings()  # makes the interpreter forget what it decided by other filters
    current: Any = warnings.filters
    current.extend(filters)
    setattr(warnings, "showwarning", show)  # noqa: B010 mypy refuses an assignment to a function


def _read_streams() -> Any:
    """Returns the standard streams, whether they are closed, and which files are behind their descriptors."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return streams, [getattr(stream, "closed", True) for stream in streams], [_file(number) for number in range(3)]


def _file(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_streams(value: Any) -> None:
    sys.stdin, sys.stdout, sys.stderr = value[0]


def _write_numpy(value: Any) -> None:
    errors, call, printing = value
    np.seterr(**errors)
    np.seterrcall(call)
    np.set_printoptions(**printing)


def _read_torch() -> Any:
    """Returns torch's global settings: if it has not been imported, those that it begins with."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_device"):
        return _FRESH_TORCH
    cudnn = torch.backends.cudnn
    return (
        str(torch.get_default_dtype()),
        str(torch.get_default_device()),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
        cudnn.deterministic,
        torch.get_float32_matmul_precision(),
    )


def _read_torch_threads() -> Any:
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    return int(os.environ.get("OMP_NUM_THREADS") or 0) or _UNKNOWN


def _write_torch(value: Any) -> None:
    dtype, device, grad, deterministic, warn_only, benchmark, cudnn_deterministic, precision = value
    torch: Any = sys.modules["torch"]
    torch.set_default_dtype(getattr(torch, dtype.removeprefix("torch.")))
    torch.set_default_device(None if device == "cpu" else device)
    torch.set_grad_enabled(grad)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, cudnn_deterministic
    torch.set_float32_matmul_precision(precision)


def _write_torch_threads(number: int) -> None:
    sys.modules["torch"].set_num_threads(number)


_CHANGED_BY_FEDMQ = (FOLDER, ENVIRONMENT, "sys.path")
_PARTS = {
    FOLDER: _Part(os.getcwd, os.chdir),
    "umask": _Part(_read_umask, os.umask),
    ENVIRONMENT: _Part(_read_environment, _write_environment),
    "sys.path": _Part(lambda: list(sys.path), _write_path),
    "signals": _Part(_read_signals, _write_signals),
    "locale": _Part(lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    "recursion limit": _Part(sys.getrecursionlimit, sys.setrecursionlimit),
    "socket timeout": _Part(socket.getdefaulttimeout, socket.setdefaulttimeout),
    "start method": _Part(
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda value: multiprocessing.set_start_method(value, force=True),
    ),
    "warnings": _Part(lambda: (list(warnings.filters), warnings.showwarning), _write_warnings),
    "logging": _Part(_read_logging, _write_logging),
    "standard streams": _Part(_read_streams, _write_streams),
    "numpy": _Part(lambda: (np.geterr(), np.geterrcall(), np.get_printoptions()), _write_numpy),
    "torch": _Part(_read_torch, _write_torch),
    "torch's threads": _Part(_read_torch_threads, _write_torch_threads),
}

"""Checks of the reducer's REST API, its version and token, and of the ports that a role listens on."""

from __future__ import annotations

import errno
import platform
import socket
from contextlib import closing
from typing import Any

from fedmq import __version__
from fedmq.errors import ConfigError, Transient
from fedmq.process.exposure import open_port
from fedmq.process.settings import AllianceSettings, ControlSettings, ReducerSettings
from fedmq_cli.doctor.findings import Notable
from fedmq_cli.doctor.inquiry import Inquired
from fedmq_schemas.messages import VERSION
from fedmq_sdk.rest import Rest

SECONDS = 5.0
NO_SESSION = "-"
"""No session has this id. A request to stop it is refused as malformed, once the token is accepted."""


def versions(control: ControlSettings) -> str:
    """Compares this version with the reducer's, where its API answers."""
    mine = f"fedmq {__version__}, Python {platform.python_version()}"
    url = _url(control)
    try:
        found = _health(control)
    except Transient:
        return f"{mine}; no reducer answers at {url}, so its version is not compared"
    protocol = found.get("protocol", VERSION)
    return _compare(mine, f"the reducer at {url}", str(found["version"]), (protocol, protocol))


def version_over_broker(inquired: Inquired) -> str:
    """Compares this version with that of the reducer that has answered over the broker."""
    mine = f"fedmq {__version__}, Python {platform.python_version()}"
    if inquired.about is None:
        return f"{mine}; not compared with the reducer's, as {inquired.why_not}: FEDN_REDUCER_HOST can name its API"
    return _compare(mine, "the reducer", inquired.about.software.removeprefix("fedmq "), inquired.about.speaks)


def own_version() -> str:
    """Returns this version only."""
    mine = f"fedmq {__version__}, Python {platform.python_version()}"
    return f"{mine}; it is compared with the reducer's if FEDN_REDUCER_HOST says where its API is"


def _compare(mine: str, reducer: str, other: str, speaks: tuple[int, int]) -> str:
    lowest, highest = speaks
    if not lowest <= VERSION <= highest:
        versions = str(lowest) if lowest == highest else f"{lowest} to {highest}"
        raise ConfigError(
            f"{mine}, speaks version {VERSION} of the messages, and {reducer} speaks {versions}: install its fedmq {other} "
            "here"
        )
    if _minor(other) != _minor(__version__):
        raise Notable(
            f"{mine}; {reducer} is fedmq {other}: only neighbouring minor versions work together, reducers are upgraded "
            f"first, and what is new needs both: install fedmq {other} here, or upgrade the reducer"
        )
    return f"{mine}; {reducer} is fedmq {other}"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def api(settings: ControlSettings) -> str:
    """Requests the API, and tries the token. For a reducer that does not run yet, tries to listen on its port."""
    url = _url(settings)
    try:
        found = _health(settings)
    except Transient as error:
        if not isinstance(settings, ReducerSettings):
            raise ConfigError(error.reason) from error
        try:
            port(settings.reducer_bind, settings.reducer_port, "FEDN_REDUCER_PORT", "the reducer's API")
        except Notable:
            raise ConfigError(
                f"another program has port {settings.reducer_port}, and does not answer as a reducer does: set "
                "FEDN_REDUCER_PORT to a free port"
            ) from error
        return f"no reducer answers at {url}; its port {settings.reducer_port} is free here"
    if isinstance(settings, AllianceSettings) and found["alliance"] != settings.alliance:
        raise ConfigError(
            f"the reducer at {url} is of alliance {found['alliance']}, and not of {settings.alliance}: see ALLIANCE_UID, "
            "FEDN_REDUCER_HOST and FEDN_REDUCER_PORT"
        )
    try:
        _rest(settings).json("POST", f"/sessions/{NO_SESSION}/stop")
    except ConfigError:
        return f"a reducer of alliance {found['alliance']} answers at {url}, and permits changes"
    raise ConfigError(f"{url} does not answer as a reducer does: see FEDN_REDUCER_HOST and FEDN_REDUCER_PORT")


def access(settings: AllianceSettings, bind: str, variable: str) -> str:
    """Looks whether others than this machine reach a port without a token. Raises ConfigError, as the role would."""
    found = open_port(settings, bind, variable)
    if found.is_local:
        return "none is needed to read: only this machine reaches the port"
    return "every request needs one, but those of /health and /ready"


def port(host: str, number: int, variable: str, what: str) -> str:
    """Listens on a port for a moment. Raises Notable if it is in use: perhaps the role runs already."""
    try:
        with closing(socket.create_server((host, number), family=_family(host))):
            return f"{what} can listen on {host}:{number}"
    except OSError as error:
        words = f"{what} can't listen on {host}:{number} ({error.strerror})"
        if error.errno == errno.EADDRINUSE:
            raise Notable(f"{words}: if it does not run here already, set {variable} to a free port") from error
        raise ConfigError(f"{words}: see {variable} and the address to listen on") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(settings: ControlSettings) -> str:
    scheme = "http" if settings.reducer_tls_cert is None else "https"
    return f"{scheme}://{settings.reducer_host}:{settings.reducer_port}"


def _rest(settings: ControlSettings) -> Rest:
    token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
    return Rest(_url(settings), token, SECONDS, settings.reducer_tls_cert, patience=SECONDS)


def _health(settings: ControlSettings) -> dict[str, Any]:
    """Returns the reducer's page of health. Raises ConfigError if another program answers."""
    try:
        found = _rest(settings).json("GET", "/health")
    except ValueError:
        found = {}
    if not {"alliance", "version"} <= found.keys():
        raise ConfigError(
            f"{_url(settings)} does not answer as a reducer does: see FEDN_REDUCER_HOST and FEDN_REDUCER_PORT"
        )
    return found

"""What tests of containers ask a reducer, over HTTP as anybody would."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from compose.engine import until

API = "http://localhost:8090"
# Of a certificate that a test made, nobody else vouches.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


TOKEN = "a token that only the tests know"
"""What a stack that publishes its ports to others is given as FEDN_ADMIN_TOKEN; where none is needed, none is looked at."""


def fetch(
    url: str, *, body: Any = None, account: str | None = None, accept: str = "application/json"
) -> tuple[int, str]:
    """Status and text; POST where there is a body. `account`: user:password; None: `TOKEN`."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), {"Accept": accept})
    request.add_header("Content-Type", "application/json")
    account = account or f"admin:{TOKEN}"
    request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30, context=UNVERIFIED) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def get(path: str) -> Any:
    """Raises ValueError for any answer but 200; one that says to try again is tried again."""
    for _ in range(10):
        status, text = fetch(f"{API}{path}")
        if status != 503:
            break
        time.sleep(1)
    if status != 200:
        raise ValueError(text)
    return json.loads(text)


def present(kind: str, prefix: str = "") -> list[dict[str, Any]]:
    """`kind`: clients or combiners; only those whose id begins so."""
    items = get(f"/{kind}")["items"]
    return [each for each in items if each["state"] == "present" and each[kind[:-1]].startswith(prefix)]


def attached(clients: int, combiners: int = 1) -> None:
    """Waits for that many of each, no more and no fewer."""
    until(
        lambda: (len(present("clients")), len(present("combiners"))) == (clients, combiners),
        f"{clients} clients and {combiners} combiners are present",
    )


def start(query: str) -> str:
    """The id of the session."""
    status, text = fetch(f"{API}/start?{query}")
    assert status == 202, text
    session = str(json.loads(text)["session"])
    until(lambda: committed(session) >= 0, "the session is recorded")
    return session


def finished(session: str, seconds: float = 300.0) -> dict[str, Any]:
    """The session's document once it has ended well. Fails with its events if it ends otherwise."""
    until(lambda: get(f"/sessions/{session}")["ended_at"] is not None, f"session {session} has ended", seconds)
    found: dict[str, Any] = get(f"/sessions/{session}")
    if found["state"] != "finished":
        events = get(f"/events?session={session}&limit=500")["items"]
        reported = [json.dumps(each) for each in events if each["name"] != "task.progress"]
        pytest.fail("\n".join([found["reason"], *reported]))
    return found


def committed(session: str) -> int:
    return int(get(f"/sessions/{session}")["rounds_committed"])


def models() -> dict[str, dict[str, Any]]:
    return {each["model"]: each for each in get("/models?limit=100")["items"]}


def mean(model: str, metric: str) -> float:
    value = models()[model]["metrics"][metric]
    return float(value["mean"] if isinstance(value, dict) else value)

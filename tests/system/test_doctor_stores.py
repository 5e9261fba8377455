"""`fedmq doctor` on stores that are full, without a bucket, behind a proxy, or in another time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from support.servers.answering import Answer, answering
from support.servers.ports import free_ports
from system.deployment import Servers
from system.doctors import doctor

pytestmark = pytest.mark.system


def refusal(status: int, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>refused</Message><Resource>/</Resource></Error>".encode()
    return Answer(status, body, {"Content-Type": "application/xml"})


def at(port: int) -> dict[str, str]:
    return {"FEDN_MINIO_HOST": "127.0.0.1", "FEDN_MINIO_PORT": str(port)}


@pytest.mark.parametrize(("status", "code"), [(507, "XMinioStorageFull"), (500, "InternalError")])
def test_a_full_blob_store_is_named(environment: dict[str, str], status: int, code: str) -> None:
    def full(method: str, path: str) -> Answer:
        if method == "PUT":
            return refusal(status, code)
        return Answer() if path.count("/") == 1 or path.endswith("updates/") else Answer(404)

    with answering(full) as port:
        verdict, text = doctor(environment | at(port), "combiner", code=2)["blob store"]

    assert verdict == "fault"
    assert code in text
    assert "does not store 4 MB, so its disk is probably full: free space there" in text
    assert "is it running" not in text


def test_a_blob_store_that_answers_nothing_well_is_not_called_full(environment: dict[str, str]) -> None:
    with answering(lambda *_: refusal(503, "ServiceUnavailable")) as port:
        verdict, text = doctor(environment | at(port), "combiner", code=2)["blob store"]

    assert verdict == "fault"
    assert "full" not in text and "is it running" in text


def test_a_bucket_that_is_not_there_and_may_not_be_made_is_named(environment: dict[str, str]) -> None:
    def without_bucket(method: str, path: str) -> Answer:
        return refusal(403, "AccessDenied") if method == "PUT" else Answer(404)

    with answering(without_bucket) as port:
        mine = environment | at(port) | {"FEDN_MINIO_BUCKET_PREFIX": "two-"}
        verdict, text = doctor(mine, "combiner", code=2)["blob store"]

    assert verdict == "fault"
    assert "has no bucket two-updates, and its account may not make it (AccessDenied): make the bucket there" in text
    assert "SECRET_KEY" not in text


def test_a_wrong_proxy_of_a_client_is_named_with_its_variable(environment: dict[str, str], servers: Servers) -> None:
    [nowhere] = free_ports(1)
    mine = environment | {
        "FEDN_MINIO_PUBLIC_URL": servers.s3.url,
        "http_proxy": f"http://me:hush@127.0.0.1:{nowhere}",
        "no_proxy": "",
    }
    verdict, text = doctor(mine, "client", code=2)["blob store"]
    around = doctor(mine | {"no_proxy": "127.0.0.1"}, "client")["blob store"]

    assert verdict == "fault"
    assert f"over the proxy 127.0.0.1:{nowhere}, which http_proxy names" in text
    assert "list the host in no_proxy" in text
    assert "hush" not in text
    assert around == ("ok", f"{servers.s3.url} answers")


def test_a_store_that_a_client_does_not_reach_is_named_with_its_setting(
    environment: dict[str, str], servers: Servers
) -> None:
    [nowhere] = free_ports(1)
    closed = environment | {"FEDN_MINIO_PUBLIC_URL": f"http://127.0.0.1:{nowhere}"}
    plain = environment | {"FEDN_MINIO_PUBLIC_URL": servers.s3.url.replace("http:", "https:")}

    away = doctor(closed, "client", code=2)
    assert away["blob store"][0] == "fault" and "See FEDN_MINIO_PUBLIC_URL" in away["blob store"][1]
    assert away["clock"][0] == "warning"
    assert "begins with http://" in doctor(plain, "client", code=2)["blob store"][1]


def test_what_a_client_can_not_know_is_said_and_no_fault(environment: dict[str, str]) -> None:
    found = doctor(environment, "client")

    assert found["blob store"][0] == found["clock"][0] == "ok"
    assert "not checked" in found["blob store"][1] and "not checked" in found["clock"][1]


@pytest.mark.parametrize(("ahead", "words"), [(400, "behind"), (-400, "ahead of")])
def test_a_clients_clock_that_is_off_is_a_warning(environment: dict[str, str], ahead: int, words: str) -> None:
    def answer(*_: str) -> Answer:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        return Answer(403, b"", {"Date": date})

    with answering(answer) as port:
        mine = environment | {"FEDN_MINIO_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        verdict, text = doctor(mine, "client")["clock"]

    assert verdict == "warning"
    assert re.search(rf"this machine's clock is (39|40)\d s {words} the S3 server's", text)
    assert "use NTP" in text

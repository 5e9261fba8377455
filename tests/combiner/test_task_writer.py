"""Tasks as they are sent: with URLs of their own, the model's signed once for all tasks of a plan."""

from __future__ import annotations

import itertools

import pytest

from fedmq.blobs.base import SignedUpload
from fedmq.blobs.memory import MemoryBlobs
from fedmq_combiner.documents import task_messages
from fedmq_combiner.task_writer import SIGN_AGAIN, URL_SLACK, TaskWriter, TicketWriter
from fedmq_schemas.messages import BlobRef, Plan, PlanKey, TaskMessage, Ticket

LEFT = 100.0
MODEL = BlobRef(key="models/m", size=1, sha256="0" * 64)
BASE = BlobRef(key="models/base", size=1, sha256="1" * 64)


class SigningBlobs(MemoryBlobs):
    """Notes which key it signs, for what and for how long."""

    def __init__(self) -> None:
        super().__init__()
        self.signed: list[tuple[str, str, float]] = []

    def presign_get(self, key: str, seconds: float) -> str:
        self.signed.append(("get", key, seconds))
        return f"get {key} #{len(self.signed)}"

    def presign_put(self, key: str, seconds: float) -> str:
        self.signed.append(("put", key, seconds))
        return f"put {key}"

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        self.signed.append(("upload", ref.key, seconds))
        return SignedUpload(f"upload {ref.key}", {"content-length": str(ref.size)})

    def models_signed(self) -> list[str]:
        return [key for method, key, _ in self.signed if method == "get"]


class Bench:
    def __init__(self) -> None:
        self.blobs = SigningBlobs()
        self.seconds = 0.0
        numbers = itertools.count(1)
        self.without_tickets = {"c1", "c2", "c3"}
        self.writer = TaskWriter(
            self.blobs,
            lambda: f"id{next(numbers)}",
            lambda: self.seconds,
            lambda client: client not in self.without_tickets,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def plan_of(round_number: int = 1, action: str = "train", base: BlobRef | None = None) -> Plan:
    return Plan(
        plan=PlanKey.model_validate({"session": "s", "round": round_number, "action": action}),
        epoch=1,
        reply_to="reducer",
        model=MODEL,
        base=base,
        exponents=(),
        timeout=LEFT,
        rounds=9,
        random_seed=1,
    )


def tasks(*clients: str, plan: Plan | None = None, left: float = LEFT) -> list[TaskMessage]:
    return list(task_messages(plan or plan_of(), clients, "k1", left))


def test_a_written_task_has_every_field_of_the_task_and_urls(bench: Bench) -> None:
    [task] = tasks("c1")
    written = TaskMessage.model_validate(bench.writer.fields(task))
    urls = {"model_url": "get models/m #1", "upload_key": written.upload_key, "upload_url": f"put {written.upload_key}"}
    assert written == task.model_copy(update=urls)
    assert written.upload_key == "updates/s/000001/c1/upload-id1"
    assert (task.model_url, task.upload_url) == ("", "")


def test_the_task_of_a_client_with_tickets_has_no_url_for_an_upload(bench: Bench) -> None:
    """The URL accepted any bytes of any size, for an hour after the task, and of a revoked client too."""
    bench.without_tickets.clear()
    [task] = tasks("c1")
    assert bench.writer.fields(task)["model_url"]
    assert TaskMessage.model_validate(bench.writer.fields(task)).upload_url == ""
    assert [method for method, _, _ in bench.blobs.signed] == ["get"]


def test_a_ticket_has_the_url_and_the_headers_of_its_blob_for_five_minutes() -> None:
    blobs = SigningBlobs()
    blob = BlobRef(key="updates/u", size=7, sha256="0" * 64)
    fields = TicketWriter(blobs).fields(Ticket(plan=plan_of().plan, blob=blob))
    written = Ticket(plan=plan_of().plan, blob=blob, url="upload updates/u", headers={"content-length": "7"})
    assert Ticket.model_validate(fields) == written
    assert blobs.signed == [("upload", "updates/u", 300.0)]


def test_a_refused_ticket_has_no_url() -> None:
    blobs = SigningBlobs()
    blob = BlobRef(key="updates/u", size=7, sha256="0" * 64)
    assert TicketWriter(blobs).fields(Ticket(plan=plan_of().plan, blob=blob, reason="late"))["url"] == ""
    assert blobs.signed == []


def test_urls_outlive_the_time_for_the_task(bench: Bench) -> None:
    [task] = tasks("c1")
    bench.writer.fields(task)
    assert [seconds for _, _, seconds in bench.blobs.signed] == [LEFT + URL_SLACK] * 2
    assert URL_SLACK == 300.0


def test_the_tasks_of_a_plan_share_the_models_url_and_nothing_of_their_own(bench: Bench) -> None:
    first, second = map(bench.writer.fields, tasks("c1", "c2"))
    assert bench.blobs.models_signed() == ["models/m"]
    assert first["model_url"] == second["model_url"]
    own = ("client", "seed", "upload_key", "upload_url")
    assert all(first[name] != second[name] for name in own)
    assert {name for name in first if first[name] != second[name]} == set(own)


def test_a_base_has_a_url_of_its_own(bench: Bench) -> None:
    written = [bench.writer.fields(task) for task in tasks("c1", "c2", plan=plan_of(base=BASE))]
    assert [fields["base_url"] for fields in written] == ["get models/base #2"] * 2
    assert bench.blobs.models_signed() == ["models/m", "models/base"]


def test_a_validation_uploads_nothing(bench: Bench) -> None:
    [task] = tasks("c1", plan=plan_of(action="validate"))
    fields = bench.writer.fields(task)
    assert (fields["upload_key"], fields["upload_url"]) == ("", "")
    assert [method for method, _, _ in bench.blobs.signed] == ["get"]


@pytest.mark.parametrize("differing", [tasks("c2", plan=plan_of(2))[0], tasks("c2", left=LEFT / 2)[0]])
def test_a_task_of_another_plan_or_deadline_shares_nothing(bench: Bench, differing: TaskMessage) -> None:
    [task] = tasks("c1")
    bench.writer.fields(task)
    fields = bench.writer.fields(differing)
    assert (fields["plan"], fields["timeout"]) == (differing.plan.model_dump(), differing.timeout)
    assert len(bench.blobs.models_signed()) == 2


def test_a_model_is_signed_anew_after_a_while(bench: Bench) -> None:
    first, second, third = tasks("c1", "c2", "c3")
    bench.writer.fields(first)
    bench.seconds = SIGN_AGAIN
    bench.writer.fields(second)
    assert len(bench.blobs.models_signed()) == 1
    bench.seconds += 1.0
    bench.writer.fields(third)
    assert len(bench.blobs.models_signed()) == 2

"""A client that shares no code with FedMQ: pika, urllib and the contract in schemas/README.md. Linear regression.

python examples/plain_amqp_client.py AMQP_URL ALLIANCE NAME ROWS.csv     # the last column is to be predicted

It keeps the rules of the contract that the comments name. It sends JSON, and so is answered in JSON (R-FORM-2). The main
thread serves the broker, also while a thread of its own works on a task. A channel that the broker closes with 404 is opened
again; after another code, such as 403 (no permission) or 406, the client ends with the broker's reason.
"""

import hashlib
import json
import math
import queue
import secrets
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
from plain_model import NoAnswer, Tensors, UrlExpired, errors, fetch, http, read, step, write

if len(sys.argv) != 5:
    sys.exit("usage: python examples/plain_amqp_client.py AMQP_URL ALLIANCE NAME ROWS.csv")
URL, ALLIANCE, NAME, FILE = sys.argv[1:]
ROWS = [[float(number) for number in line.split(",")] for line in Path(FILE).read_text().splitlines()]
KEPT = Path(f"{FILE}.kept")  # one file an update, so that a restart trains nothing twice
INSTANCE = secrets.token_hex(8)
Task = dict[str, Any]


# -- tasks --------------------------------------------------------------------------------------------------------------


class Job:
    """The work on one task. `task` is the latest request for it: a repeated one renews its URLs and its deadline."""

    def __init__(self, task: Task) -> None:
        self.is_cancelled = False
        self.tickets: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()  # that the main thread has received
        self.renew(task)

    def renew(self, task: Task) -> None:
        self.task, self.is_cancelled = task, False
        self.until = time.monotonic() + task["timeout"]  # R-DEADLINE-1: on our own clock

    def check(self) -> None:
        if self.is_cancelled or time.monotonic() > self.until:  # R-DEADLINE-2, R-CANCEL-1
            raise NoAnswer

    def ticket(self, task: Task, content: dict[str, Any]) -> dict[str, Any] | None:
        """Awaits a ticket for this content. None after ten seconds, or once the task is renewed (R-TICKET-2)."""
        until = time.monotonic() + 10
        while self.task is task and time.monotonic() < until:
            self.check()
            with suppress(queue.Empty):
                ticket = self.tickets.get(timeout=0.1)
                if ticket["plan"] == task["plan"] and ticket["blob"]["sha256"] == content["sha256"]:
                    return ticket
        return None


def key_of(plan: dict[str, Any]) -> tuple[str, int, str]:
    return plan["session"], plan["round"], plan["action"]  # R-KEY-1


class Client:
    def __init__(self) -> None:
        self.combiner, self.period, self.is_leaving = "", 10.0, False
        self.attach_at = self.present_at = 0.0
        self.waiting: dict[tuple[str, int, str], Job] = {}
        self.under_way: Job | None = None
        self.newest: dict[str, float] = {}  # the round of each session; infinite once it is over
        self.bases: dict[str, bytes] = {}
        self.unsent: deque[tuple[str, str, str, str, dict[str, Any]]] = deque()
        self.from_work: queue.SimpleQueue[Any] = queue.SimpleQueue()  # what the worker has the main thread do
        KEPT.mkdir(exist_ok=True)

    # -- work, on a thread of its own -----------------------------------------------------------------------------------

    def work(self, job: Job) -> None:
        try:
            self.do(job)
        except NoAnswer:
            pass
        except UrlExpired:  # R-HTTP-2: hello has the task sent again, with new URLs
            self.from_work.put(partial(self.hello, job.task["combiner"]))
        except Exception as error:
            self.fail(job, f"{type(error).__name__}: {error}")
        self.from_work.put(self.next_task)

    def do(self, job: Job) -> None:
        task, began, seconds = job.task, time.monotonic(), {}
        plan, is_training = task["plan"], task["plan"]["action"] == "train"
        file = KEPT / f"{plan['session']}-{plan['round']}-{task['model']['sha256'][:12]}"
        if not (is_training and file.exists()):  # R-RETRY-1: an update is good for its round and model
            shared, meta = read(fetch(task["model_url"], task["model"], job.until))
            base = self.base(job)
            model = shared | base
            seconds["fetch"] = time.monotonic() - began
            if not is_training or task.get("validate_model", True):  # R-VALIDATION-1: before the training
                loss = sum(e * e for e in errors(model, ROWS)) / len(ROWS)
                scores = {"weight": self.weight(task), "metrics": {"loss": loss if math.isfinite(loss) else None}}
                self.validated(job, scores)
            if not is_training:
                return
            job.check()
            self.answer(job.task, "progress", fraction=0.5)  # R-PROGRESS-1
            started = time.monotonic()
            delta = write(step(model, shared, meta, task.get("clip_norm"), ROWS))
            seconds["train"] = time.monotonic() - started
            file.with_suffix(".new").write_bytes(delta)
            file.with_suffix(".new").replace(file)
        delta, started = file.read_bytes(), time.monotonic()
        task, blob = self.upload(job, delta)
        seconds |= {"upload": time.monotonic() - started, "total": time.monotonic() - began}
        more = {"outcome": "fresh", "reason": "this client keeps no private state"}  # R-PERSONAL-1
        personal = {"personal": more} if task.get("personal") == "continue" else {}
        found = {"model": task["model"]["key"], "blob": blob, "weight": self.weight(task), "seconds": seconds}
        job.check()
        self.answer(task, "update", **found, **personal)

    def upload(self, job: Job, delta: bytes) -> tuple[Task, dict[str, Any]]:
        """Uploads an update. Returns the latest request for its task, and the blob to answer it with (R-RENEW-2)."""
        content = {"size": len(delta), "sha256": hashlib.sha256(delta).hexdigest()}
        while True:
            job.check()
            task = job.task
            if task.get("upload_url"):  # R-TICKET-4: a combiner of release 0.2
                http("PUT", task["upload_url"], delta, job.until)
                return task, {"key": task["upload_key"], **content}
            self.answer(task, "upload", **content)  # R-TICKET-1
            ticket = job.ticket(task, content)
            if ticket is None:
                continue
            if ticket["reason"]:  # R-TICKET-3: the combiner has recorded it
                print(f"no ticket: {ticket['reason']}", flush=True)
                raise NoAnswer
            try:
                http("PUT", ticket["url"], delta, job.until, ticket["headers"])
                return task, ticket["blob"]
            except UrlExpired:
                time.sleep(1)  # R-TICKET-2: and then requests another one

    def base(self, job: Job) -> Tensors:
        """Returns the tensors that do not travel with each model (R-BASE-1)."""
        blob = job.task.get("base")
        if blob is None:
            return {}
        data = self.bases.get(blob["sha256"]) or fetch(job.task["base_url"], blob, job.until)
        self.bases = {blob["sha256"]: data}
        tensors, meta = read(data)
        if meta.get("local"):  # R-LOCAL-2: to train from the seed's values each round would be wrong without an error
            raise ValueError(f"this client keeps no local tensors, such as {meta['local'][0]}")
        return tensors

    def weight(self, task: Task) -> int:
        weighting = task.get("weighting", "examples")  # R-WEIGHT-1
        most = 1 if weighting == "equal" else len(ROWS) if weighting == "examples" else int(weighting.partition(":")[2])
        return min(len(ROWS), most)

    def answer(self, task: Task, kind: str, **body: Any) -> None:
        """Answers the task's combiner, also after another one was granted (R-GRANT-2)."""
        self.from_work.put(partial(self.send, "update", task["combiner"], kind, plan=task["plan"], **body))

    def validated(self, job: Job, scores: dict[str, Any]) -> None:
        body = {
            "plan": job.task["plan"],
            "model": job.task["model"]["key"],
            "scope": "client",
            **scores,
        }  # R-VALIDATION-2
        self.from_work.put(partial(self.send, "update", "reducer", "validation", **body))

    def fail(self, job: Job, reason: str) -> None:
        if job.is_cancelled:
            return
        if job.task["plan"]["action"] == "train":
            self.answer(job.task, "decline", outcome="failed", reason=reason[:2000])  # R-DECLINE-1
        else:
            self.validated(job, {"weight": None, "metrics": {}, "reason": reason[:2000]})

    # -- which task is next, on the main thread ---------------------------------------------------------------------------

    def requested(self, task: Task, is_again: bool) -> None:
        session, number, action = key = key_of(task["plan"])
        if action == "train":
            if number < self.newest.get(session, 0):
                return
            self.newest[session] = number
            self.drop(lambda other: other[0] == session and other[2] == "train" and other[1] < number)  # R-LATER-1
        elif self.newest.get(session) == math.inf:
            return
        job = self.under_way
        if job is None or key_of(job.task["plan"]) != key:
            self.waiting[key] = Job(task)
        elif job.task["model"]["sha256"] != task["model"]["sha256"]:  # R-RETRY-1: it trains again, on the other model
            job.is_cancelled = True
            self.waiting[key] = Job(task)
        elif not is_again:
            job.renew(task)  # R-RENEW-1
        if self.under_way is None:
            self.next_task()

    def next_task(self) -> None:
        """Begins the next task: one at a time, a training first (R-ORDER-1)."""
        self.under_way = None
        if self.waiting and not self.is_leaving:
            key = min(self.waiting, key=lambda each: each[2] != "train")
            self.under_way = self.waiting.pop(key)
            threading.Thread(target=self.work, args=(self.under_way,), daemon=True).start()

    def cancelled(self, plan: dict[str, Any], session_over: bool) -> None:
        if session_over:  # R-CANCEL-2: the plan names the session alone
            self.newest[plan["session"]] = math.inf
            self.drop(lambda other: other[0] == plan["session"])
            return
        self.waiting = {key: job for key, job in self.waiting.items() if job.task["plan"] != plan}
        if self.under_way is not None and self.under_way.task["plan"] == plan:  # R-CANCEL-1
            self.under_way.is_cancelled = True

    def drop(self, is_over: Any) -> None:
        """Ends the tasks whose key is over, and deletes their updates (R-KEEP-1)."""
        self.waiting = {key: job for key, job in self.waiting.items() if not is_over(key)}
        if self.under_way is not None and is_over(key_of(self.under_way.task["plan"])):
            self.under_way.is_cancelled = True
        for file in KEPT.iterdir():
            session, number, _ = file.name.rsplit("-", 2)
            if is_over((session, int(number), "train")):
                file.unlink()

    # -- messages ---------------------------------------------------------------------------------------------------------

    def send(self, exchange: str, to: str, kind: str, **body: Any) -> None:
        """Queues a message. It keeps its id if it is published again (R-CONFIRM-1)."""
        key = f"{exchange}.{to}.{NAME}"
        self.unsent.append((exchange, key, f"{NAME}-{INSTANCE}-{time.time_ns()}", kind, body))

    def receive(self, channel: Any, method: Any, properties: Any, data: bytes) -> None:
        channel.basic_ack(method.delivery_tag)  # R-ACK-1
        if properties.content_type != "application/json":
            print("a message that is not JSON is left out", flush=True)
            return
        message = json.loads(data)
        kind, body = message["kind"], message["body"]
        print(f"received {kind}", flush=True)
        match kind:
            case "grant":
                former, self.combiner, self.period = self.combiner, body["combiner"], body["presence"]
                self.attach_at = math.inf
                self.hello(self.combiner)
                if former not in ("", self.combiner):
                    self.send("update", former, "client_presence", leaving=True, reassigned=True, instance=INSTANCE)
            case "wait":
                self.attach_at = time.monotonic() + body["seconds"]
            case "task":
                self.requested(body, method.redelivered)
            case "ticket" if self.under_way is not None:
                self.under_way.tickets.put(body)
            case "cancel":
                self.cancelled(body["plan"], body.get("session_over", False))
            case "duplicate_client" if body["other"] == INSTANCE:  # R-NAME-1
                sys.exit("another process works under this client's name")
        # An unknown kind is left out (R-ENVELOPE-2).

    def hello(self, combiner: str) -> None:
        self.send("update", combiner, "client_hello", instance=INSTANCE, tickets=True)
        self.present_at = time.monotonic() + self.period

    def tick(self, now: float) -> None:
        """Sends what is due: `attach` until it is answered, and presence, also while a task is under way."""
        if now >= self.attach_at:
            self.attach_at = now + 10  # R-ATTACH-1
            about = {"tasks": ["train", "validate"], "weight": len(ROWS), "instance": INSTANCE}
            self.send("assignment", "reducer", "attach", **about)
        if self.combiner and now >= self.present_at:
            self.present_at = now + self.period  # R-PRESENCE-1
            self.send("update", self.combiner, "client_presence", instance=INSTANCE)
        while not self.from_work.empty():
            self.from_work.get()()

    # -- the broker -------------------------------------------------------------------------------------------------------

    def serve(self, connection: Any) -> None:
        """Sends and receives until the connection is lost, or the client has left."""
        self.attach_at = 0.0  # R-RECONNECT-1: a grant may have been lost with the connection
        if self.combiner:
            self.hello(self.combiner)
        channel, try_at, has_left, leave_by = None, 0.0, False, math.inf
        while not (has_left and (not self.unsent or time.monotonic() > leave_by)):
            connection.process_data_events(time_limit=0.05)  # also answers heartbeats (R-HEARTBEAT-1)
            now = time.monotonic()
            self.tick(now)
            if self.is_leaving and self.under_way is None and not has_left:
                has_left, leave_by = True, now + 5
                if self.combiner:
                    self.send("update", self.combiner, "client_presence", leaving=True, instance=INSTANCE)  # R-LEAVE-1
            try:
                if channel is None or not channel.is_open:
                    channel = connection.channel()
                    channel.confirm_delivery()
                    channel.basic_qos(prefetch_count=20)
                self.publish(channel)
                if not channel.consumer_tags and now >= try_at:
                    channel.basic_consume(f"{ALLIANCE}.client.{NAME}.v1", self.receive)
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code != 404:  # R-MAILBOX-1: a retry would be refused too
                    sys.exit(f"the broker refuses this client: {error.reply_code} {error.reply_text}")
                try_at = now + 0.5  # no reducer has declared our mailbox yet

    def publish(self, channel: Any) -> None:
        while self.unsent:
            exchange, key, name, kind, body = self.unsent[0]
            message = {
                "kind": kind,
                "id": name,
                "alliance": ALLIANCE,
                "sender": NAME,
                "sent_at": time.time(),
                "body": body,
            }
            properties = pika.BasicProperties("application/json", message_id=name, delivery_mode=2)
            channel.basic_publish(
                f"{ALLIANCE}.{exchange}", key, json.dumps(message), properties
            )  # returns once confirmed
            self.unsent.popleft()

    def run(self) -> None:
        while not self.is_leaving:
            try:
                with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
                    self.serve(connection)
                    return
            except pika.exceptions.AMQPError as error:
                print(f"connecting again: {error!r}", flush=True)
                time.sleep(1 + secrets.randbelow(1000) / 1000)


if __name__ == "__main__":
    client = Client()
    signal.signal(signal.SIGTERM, lambda *_: setattr(client, "is_leaving", True))
    client.run()

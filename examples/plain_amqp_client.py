"""A client that shares no code with FedMQ: pika, urllib and the contract in schemas/README.md. Linear regression.

python examples/plain_amqp_client.py AMQP_URL ALLIANCE NAME ROWS.csv     # the last column is to be predicted
"""

import hashlib
import io
import json
import struct
import sys
import time
import urllib.request
from array import array
from pathlib import Path
from typing import Any

import pika.exceptions

URL, ALLIANCE, NAME, FILE = sys.argv[1:]
ROWS = [[float(number) for number in line.split(",")] for line in Path(FILE).read_text().splitlines()]
RATE = 0.1 / len(ROWS)
KINDS, FORMS = "bbb---nnnnnnnnnn-----sssllmm", "BHI---fdBHIQbhiq-----BHIHIHI"
"""For each msgpack code from 0xc4 on: its kind, and the format of its number or length."""
granted, tasks, kept = {"combiner": "", "presence": 10.0}, dict[str, Any](), dict[str, bytes]()


def unpack(data: io.BytesIO) -> Any:
    """Returns the next msgpack value."""
    code = data.read(1)[0]
    if code < 0x80 or code >= 0xE0 or code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}.get(code, code if code < 0x80 else code - 256)
    if code < 0xC0:
        kind, size = ("m", code & 15) if code < 0x90 else ("l", code & 15) if code < 0xA0 else ("s", code & 31)
    else:
        kind, form = KINDS[code - 0xC4], struct.Struct(">" + FORMS[code - 0xC4])
        size = form.unpack(data.read(form.size))[0]
    if kind in "lm":
        return [unpack(data) for _ in range(size)] if kind == "l" else {unpack(data): unpack(data) for _ in range(size)}
    return size if kind == "n" else data.read(size).decode() if kind == "s" else data.read(size)


def send(channel: Any, exchange: str, key: str, kind: str, **body: Any) -> None:
    name = f"{NAME}-{time.time_ns()}"
    message = {"kind": kind, "id": name, "sender": NAME, "sent_at": time.time(), "body": body}
    properties = pika.BasicProperties("application/json", message_id=name, delivery_mode=2)
    channel.basic_publish(f"{ALLIANCE}.{exchange}", key, json.dumps(message), properties)


def train(task: dict[str, Any]) -> bytes:
    """Fetches the model, takes one step down the gradient, and returns the step."""
    model = urllib.request.urlopen(task["model_url"]).read()
    assert hashlib.sha256(model).hexdigest() == task["model"]["sha256"]
    start, tensors = 8 + struct.unpack("<Q", model[:8])[0], {}
    header = {name: value for name, value in json.loads(model[8:start]).items() if name != "__metadata__"}
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, end = tensor["data_offsets"]
        tensors[name] = array("f" if tensor["dtype"] == "F32" else "d", model[start + first : start + end])
    slopes, intercept = tensors["coefficients"], tensors["intercept"]
    errors = [sum(a * b for a, b in zip(slopes, row, strict=False)) + intercept[0] - row[-1] for row in ROWS]
    for column in range(len(slopes)):
        slopes[column] = -RATE * sum(error * row[column] for error, row in zip(errors, ROWS, strict=True))
    intercept[0] = -RATE * sum(errors)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values())


def on_message(channel: Any, method: Any, _: Any, data: bytes) -> None:
    message = unpack(io.BytesIO(data))
    kind, body, plan = message["kind"], message["body"], message["body"].get("plan")
    name = f"{plan['session']}/{plan['round']}" if plan else ""
    channel.basic_ack(method.delivery_tag)
    if kind == "grant":
        granted.update(body)
        send(channel, "update", f"update.{body['combiner']}.{NAME}", "client_hello", tickets=True)
    elif kind == "task" and body["plan"]["action"] == "train":
        tasks[name], delta = body, kept.get(name) or train(body)
        kept[name], about = delta, {"size": len(delta), "sha256": hashlib.sha256(delta).hexdigest()}
        send(channel, "update", f"update.{body['combiner']}.{NAME}", "upload", plan=plan, **about)
    elif kind == "ticket" and not body["reason"]:
        urllib.request.urlopen(urllib.request.Request(body["url"], kept[name], body["headers"], method="PUT")).close()
        answer = {"plan": plan, "model": tasks[name]["model"]["key"], "blob": body["blob"], "weight": len(ROWS)}
        send(channel, "update", f"update.{tasks[name]['combiner']}.{NAME}", "update", **answer)


def say_that_we_are_here(connection: Any, channel: Any) -> None:
    if granted["combiner"]:
        send(channel, "update", f"update.{granted['combiner']}.{NAME}", "client_presence")
    else:
        send(channel, "assignment", f"assignment.reducer.{NAME}", "attach", tasks=["train"], weight=len(ROWS))
    connection.call_later(granted["presence"], lambda: say_that_we_are_here(connection, channel))


with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
    say_that_we_are_here(connection, connection.channel())
    while True:
        try:
            (channel := connection.channel()).basic_consume(f"{ALLIANCE}.client.{NAME}.v1", on_message)
            channel.start_consuming()
        except pika.exceptions.ChannelClosedByBroker:  # the reducer has not made our mailbox yet
            connection.sleep(0.5)

"""Which servers tests and `make chaos` get: this machine's programs, or with FEDMQ_TEST_SERVERS=containers the images.

With FEDMQ_TEST_RABBITMQ=4 RabbitMQ is the one that `.ci/rabbitmq-4` has installed.
"""

from __future__ import annotations

import os
from pathlib import Path

from support.servers import mongo, rabbitmq, rabbitmq_4, seaweedfs
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.rabbitmq_4 import Rabbitmq4Server
from support.servers.seaweedfs import S3Server

KIND = os.environ.get("FEDMQ_TEST_SERVERS", "programs")
if KIND not in ("programs", "containers"):
    raise ValueError(f"FEDMQ_TEST_SERVERS={KIND}: programs or containers")

RABBITMQ = os.environ.get("FEDMQ_TEST_RABBITMQ", "")
if RABBITMQ not in ("", "4"):
    raise ValueError(f"FEDMQ_TEST_RABBITMQ={RABBITMQ}: 4, or nothing for the server that FEDMQ_TEST_SERVERS names")

if KIND == "containers":
    from support.servers import containers

    # A Docker engine is all they need.
    rabbitmq_missing = s3_missing = mongo_missing = containers.missing
else:
    rabbitmq_missing, s3_missing, mongo_missing = rabbitmq.missing, seaweedfs.missing, mongo.missing
if RABBITMQ == "4":
    rabbitmq_missing = rabbitmq_4.missing


def make_rabbitmq(folder: Path) -> RabbitmqServer:
    if RABBITMQ == "4":
        return Rabbitmq4Server(folder)
    return containers.RabbitmqContainer(folder) if KIND == "containers" else RabbitmqServer(folder)


def make_s3(folder: Path) -> S3Server:
    return containers.S3Container(folder) if KIND == "containers" else S3Server(folder)


def make_mongo(folder: Path) -> MongoServer:
    return containers.MongoContainer(folder) if KIND == "containers" else MongoServer(folder)

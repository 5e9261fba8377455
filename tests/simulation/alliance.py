"""The alliance of a fault plan, run in virtual time: real cores, real runtime, real performers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.records.documents import from_text, to_text
from fedmq.runtime.actor import Actor, Observe
from fedmq.runtime.effects import CoreEvent, Effect, Received
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore
from fedmq_client.trainer import Client
from fedmq_combiner.actor import combiner_actor
from fedmq_combiner.operations import Drop, Open
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.recorder import Recorder
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, Body, Envelope, Event, Events, Plan, PlanKey, Start, Stop, VoidPlan, Welcome
from fedmq_schemas.topology import Topology, control_key, plan_key
from simulation.lines import line
from simulation.observed import Observed, errors_collected
from simulation.overwriting import overwrite_uploads
from simulation.plans import PRESENCE, Fault, FaultPlan, SimulatedClient
from simulation.training import VirtualPool, seed_model
from support.world import Process, StoreFaults, World

ALLIANCE = Topology("sim")
SEED = "seed"
MAY_CHANGE = {tables.SESSIONS: {"announced"}, tables.MODELS: {"kept", "deleted"}}
"""Fields of an ended session's documents that change after its end: whether it was announced, and what retention keeps."""
QUIET = 45.0
"""Virtual seconds that the alliance runs on, without faults, after its sessions have ended."""


class Simulation:
    """One run of a fault plan. `trace`: collects a line for every step of every core.

    `servers`: the account of reducers, combiners and the recorder, which then check the accounts of others. None: each
    process has its own account, and accounts are not checked.
    """

    def __init__(self, plan: FaultPlan, trace: list[str] | None = None, *, servers: str | None = None) -> None:
        self.plan = plan
        self.trace = trace
        self.servers = servers
        self.world = World(
            plan.seed,
            blobs_weather=StoreFaults(plan.blobs_away, plan.flakes),
            records_weather=StoreFaults(plan.records_away, plan.flakes),
        )
        self.observed = Observed()
        self.sessions = [f"session{number}" for number in range(1, len(plan.sessions) + 1)]
        self.ended: dict[str, Mapping[str, Any]] = {}
        self.gone: set[str] = set()
        self.actors: dict[Process, Actor | Recorder] = {}
        self.lives: dict[str, int] = {}
        self._doomed: list[Process] = []
        self._stores = {client.name: MemoryStore() for client in plan.clients}
        self._clients = {client.name: client for client in plan.clients}
        self.world.clocks.update(plan.clocks)
        network = self.world.network
        network.delays, network.duplicates, network.losses = plan.delays, plan.duplicates, plan.losses
        network.longest = plan.longest
        if plan.kind != "wild":
            self.world.blobs.patient = frozenset(self._clients)
        self.world.records.on_write = self._written
        overwrite_uploads(self.world)
        self.world.restart = self.start
        self.world.on_publish = self._sent
        self.world.ambush(plan.ambushes)
        self.world.stall(plan.stalls)

    # -- one run ----------------------------------------------------------------------------------------------------

    def run(self, limit: float) -> bool:
        """Runs the plan; returns whether all sessions ended before `limit` (virtual seconds)."""
        with errors_collected(self.observed):
            self.world.blobs.put(keys.model_blob(SEED), seed_model())
            for name, begins in self._beginnings().items():
                self.world.scheduler.later(begins, lambda name=name: self.start(name))  # type: ignore[misc]
            for number, policy in enumerate(self.plan.sessions):
                self.world.scheduler.later(5.0 + number, lambda n=number, p=policy: self._start_session(n, p))  # type: ignore[misc]
            for blow in self.plan.blows:
                self.world.scheduler.later(blow.at, lambda blow=blow: self._strike(blow))  # type: ignore[misc]
            scheduler = self.world.scheduler
            all_ended = scheduler.run(lambda: len(self.ended) == len(self.sessions), limit)
            self.world.call_off()
            for process in self._doomed:
                process.kill()
            scheduler.run(self._is_mended, scheduler.now() + 2 * QUIET)
            scheduler.run(limit=scheduler.now() + QUIET)
            end = scheduler.now()
            for tenth in range(1, 21):
                if self.left_over():  # may be on its way just now
                    scheduler.run(limit=end + tenth / 10)
            return all_ended

    def _is_mended(self) -> bool:
        """Returns whether each process that is due to restart or resume has done so."""
        alive = [process for process in self.world.processes if process.is_alive]
        links = [link.inner for process in alive for link in process.links]
        return not self.world.due_again and not any(p.is_paused for p in alive) and all(link._up for link in links)

    def close(self) -> None:
        self.world.close()

    def _beginnings(self) -> dict[str, float]:
        beginnings = dict.fromkeys(self.plan.reducers, 0.0)
        if self.plan.recorder:
            beginnings["recorder"] = 0.0
        return beginnings | self.plan.combiners | {client.name: client.begins for client in self.plan.clients}

    def _start_session(self, number: int, policy: Any) -> None:
        seed = None if self.plan.chained and number > 0 else SEED
        self._send(Start(policy=policy.model_copy(update={"seed": seed})), self.sessions[number])

    def _send(self, body: Start | Stop, message_id: str) -> None:
        """Publishes until the broker has confirmed it."""
        connection = self.world.broker.connect("somebody")
        message = message_of("control", control_key(body.kind), body, "somebody", message_id, mandatory=True)

        def confirmed(error: object) -> None:
            if error is not None:
                self.world.scheduler.later(1.0, lambda: connection.publish(message, confirmed))

        connection.publish(message, confirmed)

    # -- blows ------------------------------------------------------------------------------------------------------

    def _strike(self, blow: Fault) -> None:
        world, name = self.world, blow.target
        if len(self.ended) == len(self.sessions):
            return
        if blow.kind == "outage":
            world.broker.outage(blow.seconds or 0.0)
            return
        if blow.kind == "stop":
            self._stop_sessions("after_round" if int(blow.at) % 2 else "now")
            return
        if blow.kind == "ghost":
            self._haunt()
            return
        if blow.kind == "clock":
            world.clocks[name] = world.clocks.get(name, 0.0) + (blow.seconds or 0.0)
            return
        alive = world.alive(name)
        if blow.kind == "twin" and alive:
            self.start(name)
            for process in alive:
                world.scheduler.later((blow.seconds or 0.0) + 5.0, process.kill)
            self._doomed += alive
        elif blow.kind == "pause" and alive:
            alive[-1].pause(blow.seconds or 0.0)
        elif blow.kind == "cut" and alive:
            alive[-1].cut(blow.seconds or 0.0)
        elif blow.kind == "leave":
            self._leave(name, blow.seconds or 0.0)
        elif blow.kind in ("crash", "wipe"):
            if blow.kind == "wipe":
                self._stores[name] = MemoryStore()
            self._kill(name, blow.seconds)

    def _stop_sessions(self, when: Literal["now", "after_round"]) -> None:
        for session in self.sessions:
            self._send(Stop(session=session, when=when), f"stop-{session}")

    def _haunt(self) -> None:
        """Voids every plan under an old epoch, as a reducer does that does not know yet that it lost its lease. The fence
        of a record store may not be atomic, so a combiner must discard such messages."""
        connection = self.world.broker.connect("reducer")
        for attempt in self.world.records.inner.find(tables.ATTEMPTS):
            for plan in attempt["plans"]:
                place = {name: attempt[name] for name in ("session", "round", "attempt")}
                body = VoidPlan(epoch=0, plans=(PlanKey(**place, part=plan["part"]),))
                connection.publish(message_of("task", plan_key(plan["combiner"]), body, "reducer", self.world.new_id()))

    def _kill(self, name: str, seconds: float | None) -> None:
        if seconds is None:
            self.gone.add(name)
        self.world.crash(name, seconds)

    def _leave(self, name: str, seconds: float) -> None:
        """A clean stop, and a new start later."""
        for process in self.world.alive(name):
            process.run(lambda actor=self.actors[process]: actor.stop())  # type: ignore[misc]
            process.kill()
        self.world.crash(name, seconds)

    def _written(self, table: str, key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
        if old is not None and old.get("session") in self.ended:
            written = from_text(to_text(new))
            changed = {name for name in old.keys() | written.keys() if old.get(name) != written.get(name)}
            if changed := changed - MAY_CHANGE.get(table, set()):
                owner, fields = old["session"], ", ".join(sorted(changed))
                self.observed.broken.append(
                    f"{key} in {table} belongs to {owner}, which had ended, and changed its {fields}"
                )
        if table == tables.SESSIONS and new["state"] in tables.ENDED:
            if key in self.ended and self.ended[key]["state"] != new["state"]:
                self.observed.broken.append(f"{key} was {self.ended[key]['state']} and became {new['state']}")
            self.ended[key] = dict(new)
        if table == tables.ROUNDS and old is not None and dict(old) != from_text(to_text(new)):
            self.observed.broken.append(f"the record of round {key} was changed after its commit")

    def _sent(self, process: Process, message: Outgoing) -> None:
        kind = [*message.routing_key.split("."), "", ""][2]
        if message.routing_key.startswith("event.session") and kind in ("session", "round", "validation"):
            body = self._body(message)
            assert isinstance(body, Event | Events)
            self.observed.events += [body] if isinstance(body, Event) else body.events
        elif message.routing_key.startswith("plan.") and isinstance(body := self._body(message), Plan):
            self.observed.note_plan(body, self.world.records.inner)

    def _body(self, message: Outgoing) -> Body:
        content, name = message.content_type, message.message_id
        return codec.decode(message.body, content, message_id=name, alliance=ALLIANCE.alliance).body

    # -- processes --------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Starts a process of this name, beside whatever runs."""
        if name in self.gone:
            return
        self.lives[name] = self.lives.get(name, 0) + 1
        process = self.world.process(name)
        actor = self._actor(name, process)
        self.actors[process] = actor
        process.run(actor.start)

    def _actor(self, name: str, process: Process) -> Actor | Recorder:
        world, plan = self.world, self.plan
        if name == "recorder":
            return Recorder(
                process.connect(self.servers or name),
                process,
                ALLIANCE,
                world.records,
                offload=plan.offload,
                shared_account=self.servers,
            )
        common: dict[str, Any] = {
            "scheduler": process,
            "topology": ALLIANCE,
            "new_id": world.new_id,
            "observe": self._observer(name),
        }
        if name in plan.reducers:
            return reducer_actor(
                f"{name}-{self.lives[name]}",
                process.connect(self.servers or "reducer"),
                blobs=world.blobs,
                records=world.records,
                scratch=Path("unused"),
                presence=PRESENCE,
                partitions=None,
                offload=plan.offload,
                shared_account=self.servers,
                **common,
            )
        if name in plan.combiners:
            return combiner_actor(
                name,
                process.connect(self.servers or name),
                blobs=world.blobs,
                scratch=Path("unused"),
                presence=PRESENCE,
                offload=plan.offload,
                shared_account=self.servers,
                **common,
            )
        return self._client_actor(self._clients[name], process, common)

    def _client_actor(self, client: SimulatedClient, process: Process, common: dict[str, Any]) -> Actor:
        attach = Attach(tasks=("validate",) if client.evaluator else ("train", "validate"), weight=client.examples)
        pool = VirtualPool(
            process, lambda _: client.seconds, client.examples, lambda number: client.moods.get(number, "train")
        )
        return client_actor(
            Client(name=client.name, tasks=attach.tasks),
            attach,
            Path("unused"),
            process.connect(client.name),
            pool=pool,
            store=self._stores[client.name],
            models=Models(None),
            **common,
        )

    def _observer(self, name: str) -> Observe | None:
        trace, now, life = self.trace, self.world.scheduler.now, self.lives[name]
        watch = self._epoch_watch(name) if name in self.plan.combiners else None
        if trace is None:
            return watch

        def observe(event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
            trace.append(f"{now():9.3f} {name}#{life} {line(event, answer)}")
            if watch is not None:
                watch(event, answer, cause)

        return observe

    def _epoch_watch(self, name: str) -> Observe:
        """Records a breach if a combiner opens or ends plans for an epoch below one that it has received."""
        highest = 0

        def watch(event: CoreEvent, answer: Sequence[Effect], _: str | None) -> None:
            nonlocal highest
            body = event.body if isinstance(event, Received) else None
            if isinstance(body, Plan | VoidPlan | Welcome):
                if body.epoch < highest and any(isinstance(effect, Open | Drop) for effect in answer):
                    self.observed.broken.append(f"{name} obeyed epoch {body.epoch} after {highest}")
                highest = max(highest, body.epoch)

        return watch

    # -- after the run ----------------------------------------------------------------------------------------------

    def left_over(self) -> list[str]:
        """Describes messages that are still in a queue whose owner lives, or held by a process."""
        found = []
        for process in self.world.processes:
            if process.is_alive:
                for link in process.links:
                    if held := [entry.message.routing_key for _, _, entry in link.inner._unsettled.values()]:
                        found.append(f"{process.name} holds messages unsettled: {', '.join(held[:5])}")
        owners = {ALLIANCE.reducer().name: ""} | {ALLIANCE.dead().name: ""}
        owners |= {ALLIANCE.combiner(name).name: name for name in self.plan.combiners}
        owners |= {ALLIANCE.client(client.name).name: client.name for client in self.plan.clients}
        for queue, owner in owners.items():
            if owner not in self.gone and (ready := self.world.broker.ready(queue)):
                found.append(f"{ready} messages wait in {queue}")
        return found


def message_of(
    exchange: str, key: str, body: Body, sender: str, message_id: str, *, mandatory: bool = False
) -> Outgoing:
    envelope = Envelope(kind=body.kind, id=message_id, alliance=ALLIANCE.alliance, sender=sender, sent_at=0.0)
    data = codec.encode(envelope.__dict__, body.model_dump())
    return Outgoing(ALLIANCE.exchange(exchange), key, data, message_id, mandatory=mandatory)

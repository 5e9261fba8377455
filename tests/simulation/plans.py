"""Fault plans as data: an alliance, a session or two, and what befalls them, drawn from one number.

Three kinds. *Gentle*: no outage is long enough for anybody to be given up, so even the draw of each round is known.
*Slack*: outages are long, but everybody comes back before a deadline. In both the models are known beforehand. *Wild*:
deadlines are short, clients lie, combiners vanish for good; what is committed must still be exact, and all must end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedmq_schemas.policy import ClientSelection, Policy, Retention, Strategy
from simulation.training import Behaviour
from support.world import FaultAtStep, Stall

PRESENCE = 10.0
FAULTS_END = 60.0

Kind = Literal["gentle", "slack", "wild"]


@dataclass(frozen=True, slots=True)
class SimulatedClient:
    """`begins`: when it is started. `seconds`: how long it trains. `moods`: by round, where not "train"."""

    name: str
    examples: int
    seconds: float
    begins: float = 0.0
    moods: dict[int, Behaviour] = field(default_factory=dict)
    evaluator: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """At a time: crash and pause and cut as in `FaultAtStep`; `seconds` None: for good. twin: another process of the same
    name starts beside it. outage: the broker is away. wipe: it dies and its state directory is lost. stop: somebody
    stops the session, now or after its round. ghost: a reducer that lost its lease long ago voids whatever plans are
    open. clock: its wall clock steps by `seconds`."""

    at: float
    kind: Literal["crash", "pause", "cut", "twin", "outage", "wipe", "stop", "leave", "ghost", "clock"]
    target: str = ""
    seconds: float | None = 5.0


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Everything about one simulated run. `chained`: the second session starts from the newest model, which is the first
    session's last one if that has made any. `clocks`: by how many seconds the wall clocks of processes are off."""

    seed: int
    kind: Kind
    reducers: tuple[str, ...]
    combiners: dict[str, float]
    clients: tuple[SimulatedClient, ...]
    sessions: tuple[Policy, ...]
    offload: bool
    recorder: bool
    ambushes: tuple[FaultAtStep, ...] = ()
    stalls: tuple[Stall, ...] = ()
    blows: tuple[Fault, ...] = ()
    blobs_away: tuple[tuple[float, float], ...] = ()
    records_away: tuple[tuple[float, float], ...] = ()
    flakes: float = 0.0
    delays: float = 0.0
    duplicates: float = 0.0
    losses: float = 0.0
    longest: float = 5.0
    chained: bool = False
    clocks: dict[str, float] = field(default_factory=dict)

    def undisturbed(self) -> FaultPlan:
        """The same alliance and sessions, and nothing happens."""
        return FaultPlan(
            self.seed,
            self.kind,
            self.reducers,
            self.combiners,
            self.clients,
            self.sessions,
            self.offload,
            self.recorder,
            chained=self.chained,
        )

    @property
    def trainers(self) -> tuple[SimulatedClient, ...]:
        return tuple(client for client in self.clients if not client.evaluator)


def draw(seed: int) -> FaultPlan:
    """The fault plan of this number."""
    source = random.Random(seed)
    kind: Kind = source.choice(["gentle", "slack", "wild", "wild"])
    clients = tuple(_client(source, kind, number) for number in range(source.randint(1, 5)))
    if source.random() < 0.3:
        clients = (*clients, SimulatedClient("evaluator", 10, 0.1, evaluator=True))
    combiners = {f"combiner{number}": 0.0 for number in range(1, source.randint(1, 3) + 1)}
    if kind == "wild" and source.random() < 0.3:
        combiners["combiner9"] = source.uniform(0, 40)
    reducers = ("reducer1", "reducer2")[: source.randint(1, 2)]
    trainers = sum(not client.evaluator for client in clients)
    sessions = tuple(_policy(source, kind, trainers) for _ in range(2 if source.random() < 0.15 else 1))
    names = [*reducers, *combiners, *(client.name for client in clients)]
    trouble = source.random()
    return FaultPlan(
        seed=seed,
        kind=kind,
        reducers=reducers,
        combiners=combiners,
        clients=clients,
        sessions=sessions,
        offload=source.random() < 0.5,
        recorder=source.random() < 0.25,
        ambushes=tuple(_ambush(source, kind, names) for _ in range(source.choice([0, 1, 1, 2, 3, 5]))),
        blows=_spare_one(
            [_blow(source, kind, names, len(reducers)) for _ in range(source.choice([0, 1, 2, 4]))], reducers
        ),
        stalls=_stalls(source, kind, reducers),
        blobs_away=_spans(source),
        records_away=_spans(source),
        flakes=source.choice([0.0, 0.0, 0.01, 0.05, 0.2]),
        delays=source.choice([0.0, 0.0, 0.1, 0.5]) * trouble,
        duplicates=source.choice([0.0, 0.0, 0.1, 0.4]) * trouble,
        losses=source.choice([0.0, 0.0, 0.1, 0.3]) * trouble,
        longest=source.choice([0.5, 5.0, 50.0]),
        chained=len(sessions) > 1 and source.random() < 0.5,
    )


def _client(source: random.Random, kind: Kind, number: int) -> SimulatedClient:
    moods: dict[int, Behaviour] = {}
    if kind == "wild":
        for round_number in range(1, 4):
            if source.random() < 0.15:
                moods[round_number] = source.choice(["abstain", "fail", "nan"])
    return SimulatedClient(
        name=f"client{number + 1}",
        examples=source.choice([1, 2, 7, 32, 500, 2**31]),
        seconds=source.choice([0.01, 1.0, 5.0, 15.0] if kind != "wild" else [0.01, 1.0, 5.0, 15.0, 45.0]),
        begins=source.choice([0.0, 0.0, 0.0, 3.0] if kind != "wild" else [0.0, 0.0, 5.0, 30.0]),
        moods=moods,
    )


def _policy(source: random.Random, kind: Kind, trainers: int) -> Policy:
    strategy = source.choice([Strategy(), Strategy(), Strategy(name="fedadam"), Strategy(name="fedavgm")])
    common: dict[str, Any] = {
        "rounds": source.choice([1, 2, 3, 3, 4]),
        "strategy": strategy,
        "random_seed": source.randrange(2**31),
        "validation": source.choice(["with_training", "separate", "none"]),
        "weighting": source.choice(["examples", "examples", "equal", "capped:10"]),
        "max_weight": 2**31,
        "retention": Retention(
            keep_updates=source.choice(["all", "all", 0, 1]), keep_models=source.choice(["all", 0, 0, 2])
        ),
        "validation_timeout": 30.0,
    }
    if kind == "gentle":
        requested = source.randint(1, trainers)
        return Policy(
            clients_required=source.randint(1, requested),
            clients_requested=requested,
            clients=ClientSelection(fraction=source.choice([0.3, 0.6, 1.0])),
            timeout=900.0,
            retries=0,
            wait=900.0,
            **common,
        )
    if kind == "slack":
        return Policy(clients_required=trainers, timeout=900.0, retries=0, wait=1800.0, **common)
    required = source.randint(1, max(1, trainers - 1))
    return Policy(
        clients_required=required,
        clients_requested=source.choice([None, None, trainers]),
        clients=ClientSelection(fraction=source.choice([0.5, 1.0, 1.0])),
        timeout=source.choice([5.0, 20.0, 40.0]),
        retries=source.randint(0, 2),
        wait=source.choice([60.0, 200.0]),
        **common,
    )


def _ambush(source: random.Random, kind: Kind, names: list[str]) -> FaultAtStep:
    name = source.choice(names)
    most = 200 if name.startswith("reducer") else 100 if name.startswith("combiner") else 40
    step = 1 + int(most * source.random() ** 2)
    fate: Literal["crash", "pause", "cut"] = source.choice(["crash", "crash", "pause", "cut"])
    return FaultAtStep(name, step, fate, _downtime(source, kind))


def _stalls(source: random.Random, kind: Kind, reducers: tuple[str, ...]) -> tuple[Stall, ...]:
    """Long enough for the other reducer to take over."""
    if len(reducers) < 2 or kind == "gentle" or source.random() < 0.7:
        return ()
    calls = ["insert sessions", "insert attempts", "insert partials", "insert rounds", "update sessions", "put models/"]
    call = source.choice(calls)
    return tuple(Stall(name, call, source.choice([12.0, 25.0, 45.0])) for name in reducers[: source.randint(1, 2)])


def _downtime(source: random.Random, kind: Kind) -> float:
    if kind == "gentle":
        return source.choice([0.0, 0.5, 3.0, 8.0])
    return source.choice([0.0, 0.5, 3.0, 12.0, 25.0, 45.0])


def _blow(source: random.Random, kind: Kind, names: list[str], reducers: int) -> Fault:
    at = source.uniform(0.0, FAULTS_END)
    if source.random() < 0.15:
        return Fault(at, "outage", "", min(8.0, _downtime(source, kind)))
    if source.random() < 0.1:
        return Fault(at, "ghost")
    name = source.choice(names)
    fates = ["crash", "crash", "pause", "cut", "twin"]
    if name.startswith("client"):
        fates.remove("twin")
        fates.append("wipe")
    if kind == "wild":
        fates += ["leave", "stop"] if source.random() < 0.2 else ["leave"]
    fate = source.choice(fates)
    seconds: float | None = _downtime(source, kind)
    is_last_reducer = name.startswith("reducer") and reducers == 1
    if kind == "wild" and fate == "crash" and source.random() < 0.3 and not is_last_reducer:
        seconds = None
    return Fault(at, fate, name, seconds)  # type: ignore[arg-type]


def _spare_one(blows: list[Fault], reducers: tuple[str, ...]) -> tuple[Fault, ...]:
    """One reducer comes back: where none does, no session can end."""
    gone: set[str] = set()
    spared = []
    for blow in blows:
        for_good = blow.kind == "crash" and blow.seconds is None and blow.target in reducers
        if for_good and gone | {blow.target} == set(reducers):
            spared.append(replace(blow, seconds=45.0))
            continue
        if for_good:
            gone.add(blow.target)
        spared.append(blow)
    return tuple(spared)


def _spans(source: random.Random) -> tuple[tuple[float, float], ...]:
    if source.random() < 0.7:
        return ()
    start = source.uniform(0, 40)
    return ((start, start + source.choice([0.5, 3.0, 8.0, 20.0])),)

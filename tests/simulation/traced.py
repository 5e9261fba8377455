"""A simulation that collects the spans of each process."""

from __future__ import annotations

from fedmq.process.wait_log import observe_all
from fedmq.runtime.actor import Observe
from fedmq.runtime.spans import OpenSpans, TraceSpan
from fedmq_client.role.traces import ClientTraces
from fedmq_combiner.traces import CombinerTraces
from fedmq_reducer.traces import ReducerTraces
from simulation.alliance import ALLIANCE, Simulation
from simulation.plans import FaultPlan


class TracedSimulation(Simulation):
    """`spans`: by the process that made them, such as `c1#2` for the second life of `c1`."""

    def __init__(self, plan: FaultPlan) -> None:
        super().__init__(plan)
        self.spans: dict[str, list[TraceSpan]] = {}

    @property
    def all_spans(self) -> list[TraceSpan]:
        return [span for spans in self.spans.values() for span in spans]

    def _observer(self, name: str) -> Observe | None:
        found = self.spans.setdefault(f"{name}#{self.lives[name]}", [])
        spans = OpenSpans(ALLIANCE.alliance, self.world.scheduler.wall, found.append)
        if name in self.plan.reducers:
            traces: Observe = ReducerTraces(spans)
        elif name in self.plan.combiners:
            traces = CombinerTraces(spans, name)
        else:
            traces = ClientTraces(spans, name)
        before = super()._observer(name)
        return traces if before is None else observe_all(before, traces)

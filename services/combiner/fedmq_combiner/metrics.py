"""The families of metrics that a combiner serves beside those of every process."""

from __future__ import annotations

from fedmq.web.families import UNSETTLED, Family

COMBINER_CLIENTS = Family("fedmq_combiner_clients", "gauge", "Clients that this combiner serves.")
OPEN_PLANS = Family("fedmq_open_plans", "gauge", "Plans of this combiner that wait for updates.")
FAMILIES = (COMBINER_CLIENTS, OPEN_PLANS, UNSETTLED)

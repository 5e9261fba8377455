"""The session of a state directory: its id, and where its random draws start."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

from fedmq.errors import ConfigError
from fedmq_sandbox.options import SandboxOptions
from fedmq_schemas.policy import Policy


def identity_of(options: SandboxOptions, policy: Policy) -> tuple[str, int]:
    """Returns the session's id and random seed, the same ones whenever the state directory is opened.

    Raises ConfigError if the directory holds a session with other options.
    """
    random_seed = policy.random_seed if policy.random_seed is not None else secrets.randbits(31)
    chosen: dict[str, Any] = {"session": f"s{secrets.token_hex(4)}", "random_seed": random_seed}
    if options.state_dir is None:
        return chosen["session"], chosen["random_seed"]
    path = options.state_dir / "sandbox.json"
    asked = {
        "clients": options.clients,
        "dirichlet": options.dirichlet,
        "policy": policy.model_dump(mode="json", exclude={"random_seed"}),
    }
    if path.exists():
        chosen = json.loads(path.read_text())
        if chosen["asked"] != asked or policy.random_seed not in (None, chosen["random_seed"]):
            raise ConfigError(
                f"{options.state_dir} holds a session with other options: give the same ones to resume it, "
                "or another --state-dir"
            )
    else:
        replacement = path.with_suffix(".new")
        replacement.write_text(json.dumps({**chosen, "asked": asked}))
        os.replace(replacement, path)
    return chosen["session"], chosen["random_seed"]

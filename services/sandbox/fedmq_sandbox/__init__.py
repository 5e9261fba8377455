"""A whole alliance in this process, for a laptop, a notebook or a test."""

from fedmq_sandbox.sandbox import Interrupted, Sandbox, SandboxOptions

__all__ = ["Interrupted", "Sandbox", "SandboxOptions"]

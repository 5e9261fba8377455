"""An alliance from Python, over the REST API of its reducers:

from fedmq_sdk import Alliance

session = Alliance("http://localhost:8090").start(rounds=10)
session.wait()
"""

from fedmq_sdk.alliance import Alliance, SessionHandle

__all__ = ["Alliance", "SessionHandle"]

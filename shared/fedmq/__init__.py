"""What every role stands on. Pure: errors, codec, tensors and aggregation, without clock, threads or connections.

Adapters: brokers, blobs and records, each a port with an embedded and a server implementation under one contract suite,
and the runtime, which feeds events to a core and performs its effects.
"""

__version__ = "0.2.0"

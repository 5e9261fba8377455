"""What every role stands on, in two layers.

Pure: errors, codec, tensors, membership, effects and aggregation. They hold no clock, no threads
and no connections.
Adapters: brokers, blobs and records, each a port with an embedded and a server implementation
under one contract suite, and the runtime, which feeds events to a core and performs its effects.
Only `brokers.rabbitmq`, `blobs.s3` and `records.mongo` import the client library of a server.
"""

__version__ = "0.2.0"

"""The reducer's REST API.

It publishes control messages, reads records and stores seeds. It decides nothing, so the API of any reducer will do, also of
one that stands by. Each endpoint is a function of its module; `context.py` has what they share.
"""

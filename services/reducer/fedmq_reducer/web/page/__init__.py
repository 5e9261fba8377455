"""The control page: the alliance at a glance, and the form that starts and stops sessions.

Rendered by the server, kept fresh by server-sent events; it works without scripts too, only not live.
"""

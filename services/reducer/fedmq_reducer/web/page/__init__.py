"""The control page: the status of the alliance, and the form that starts and stops sessions.

The server renders it and keeps it up to date by server-sent events. Without scripts it works, but does not update itself.
"""

"""A combiner: folds the updates of its clients into one partial per plan.

`core` decides and is pure; `app` wires it. A combiner leaves updates unacknowledged until a partial or checkpoint that
contains them is durable, so that it can be killed at any instant.
"""

"""Where jobs run. The port is `job.job`: `Pool`, `Job`, `Result`.

- `inline`: `InlinePool` runs a job in the caller's thread.
- `processes`: `ProcessPool` runs jobs in worker processes; `process` is its end of one of them.
- `pooled_jobs`: a job from its submission to its result; `output`: what the jobs of a worker print.
- `locating`, `stack_dump`: where in its code a worker's job is.
- `worker`: the worker process itself; `wire`: the messages between the two; `devices`: the worker's environment.
"""

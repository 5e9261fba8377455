"""The broker port in this process: exchanges, queues and their rules, for the sandbox and tests."""

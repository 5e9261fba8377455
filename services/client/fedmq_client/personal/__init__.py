"""What belongs to one client beyond a session: its local tensors and `task.state`. They leave a site by no message."""

"""The REST API and the control page of a reducer."""

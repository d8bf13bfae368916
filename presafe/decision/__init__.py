"""The decision before the first token: read, taken, written and recognised, the same for jobs and for the endpoint."""

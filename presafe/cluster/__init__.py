"""The cluster a run works on: what a stage asks of it, and which Python its workers have."""

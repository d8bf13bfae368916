"""What the operator has: keys, decision log, drift alarm, metrics, warnings."""

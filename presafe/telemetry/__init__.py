"""What a run and an endpoint tell those who watch them from outside: metrics and traces."""

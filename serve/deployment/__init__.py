"""How the endpoint starts, ends, and is deployed on a cluster if the model is good enough."""

"""Jobs on a Ray cluster: submitted, followed, cancelled."""

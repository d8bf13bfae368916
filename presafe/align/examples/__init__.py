"""What is trained on: demonstrations and signals of the run as token ids, chosen by Ray tasks."""

"""Generation engines: token ids in, completions and head probabilities out."""

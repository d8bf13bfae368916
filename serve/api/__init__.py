"""OpenAI's protocol: from the bytes of a body to the answer of one replica."""

"""An exported PreSafe model behind an OpenAI-compatible endpoint on Ray Serve, refusing before it thinks."""

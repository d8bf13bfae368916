"""What the application is told."""

from presafe.config import EndpointSettings


class ServeArgs(EndpointSettings):
    """Arguments of the application."""

    model: str
    """Exported model: the model/ folder of a run, by path or URL that every node can reach."""

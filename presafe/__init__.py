"""PreSafe on Ray: teach a reasoning model to decide whether to answer before it starts to think."""

__version__ = "0.1.0"

"""How much KV cache a replica lays out."""

from presafe.config import BatchingSettings
from presafe.errors import user_error

SAFETY_MARGIN = 0.15
"""Share of the cache that transformers' scheduler keeps free of new prompts."""
CPU_CONVERSATIONS = 4


def blocks(settings: BatchingSettings, longest: int, device: str) -> int | None:
    """Blocks of `page_size` tokens; None leaves it to transformers, which takes what a GPU has left.

    Raises UserError where one conversation of `longest` tokens would not fit: it would end the engine for everybody.
    """
    if settings.kv_cache_tokens is None and device != "cpu":
        return None
    needed = int(longest / (1 - SAFETY_MARGIN)) + settings.page_size
    tokens = settings.kv_cache_tokens or CPU_CONVERSATIONS * needed
    if tokens < needed:
        raise user_error(
            found=f"batching.kv_cache_tokens={tokens}",
            needed=f"at least {needed}: a conversation with its completion ({longest}) and a safety margin",
            change="raise it, or lower max_prompt_tokens or max_new_tokens",
        )
    return -(-tokens // settings.page_size)

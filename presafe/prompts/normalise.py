"""One spelling for each prompt, and the key under which two spellings are the same prompt."""

import unicodedata


def normalise(text: str) -> str:
    """NFC, line ends as LF, no space around: what the model is shown."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def dedupe_key(text: str) -> str:
    """Texts that differ in case, width or spacing alone share a key."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

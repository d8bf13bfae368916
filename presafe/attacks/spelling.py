"""The prompt's words in another spelling."""

import base64
import codecs
import random

from presafe.attacks.attacked import Attacked
from presafe.config.attacks import TEXT, Encoding, Homoglyphs
from presafe.conversation import Conversation

LOOK_ALIKES = dict(
    zip(
        "aceijopsxyABEHIKMOPTXYZ",
        "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
        "\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039f\u03a1\u03a4\u03a7\u03a5\u0396",
        strict=True,
    )
)
"""Cyrillic and Greek letters that look like Latin ones."""
LEET = str.maketrans("aeiostAEIOST", "431057431057")


def homoglyphs(attack: Homoglyphs, asked: Conversation, rng: random.Random) -> Attacked:
    """Aims at a decision by tokens: who reads the letters sees the same words.

    Draws which letters. Costs more tokens for the same text, as a tokenizer falls back to bytes.
    """
    drawn = (LOOK_ALIKES[c] if c in LOOK_ALIKES and rng.random() < attack.share else c for c in asked.text)
    return Attacked("".join(drawn), asked.earlier)


def encoding(attack: Encoding, asked: Conversation) -> Attacked:
    """Aims at a decision taken before the text is read: what is asked shows once it is decoded, inside the thought.

    Draws nothing. Costs the instruction, and more tokens for the same text.
    """
    return Attacked(attack.form.replace(TEXT, encoded(asked.text, attack.code)), asked.earlier)


def encoded(text: str, code: str) -> str:
    match code:
        case "base64":
            return base64.b64encode(text.encode()).decode()
        case "hex":
            return text.encode().hex()
        case "rot13":
            return codecs.encode(text, "rot13")
        case "leetspeak":
            return text.translate(LEET)
        case "reversed":
            return text[::-1]
        case _:
            return " ".join(text)

"""Look-alikes and other wordings by rule, for `make bench-signals`: generic, from the training sources' own words.

A classifier of harmful and benign requests from different sources learns the sources' style. Two rules work against
it. Restyling gives both classes the same forms ("Write a guide on how to X" becomes "How do I X?"). Swapping puts
noun phrases of benign prompts in place of a harmful one's, which leaves its form and takes its meaning: a benign row.
"""

import random
import re

FORMS = (
    "How do I {}?",
    "How can I {}?",
    "What is the best way to {}?",
    "How to {}?",
    "Can you help me {}?",
    "Tell me how to {}",
    "I want to {}",
)
_FUNCTION_WORD = re.compile(
    r"(?i:"
    r"a|about|after|again|all|also|an|and|any|are|as|at|be|been|before|being|between|both|but|by|can|could|did|"
    r"do|does|down|each|every|for|from|had|has|have|he|here|how|i|if|in|into|is|it|its|may|might|more|most|must"
    r"|my|no|not|of|off|on|once|only|or|other|our|out|over|own|per|same|shall|she|should|so|some|such|than|that"
    r"|the|their|then|there|these|they|this|those|through|to|too|under|up|using|very|via|was|we|were|what|when|"
    r"where|which|while|who|whom|whose|why|will|with|within|without|would|you|your"
    r")"
)
_PHRASE = re.compile(
    r"\b(a|an|the|my|your|his|her|their|our|its|some|someone's) ([A-Za-z][A-Za-z'-]*)( [a-z][a-z'-]*)?\b"
)
_HOW_TO = re.compile(r"\b(?:how to|ways to|steps to) (.+)$", re.IGNORECASE)
_QUESTION = re.compile(r"(?:how|what|why|is|are|can|who|where|when|which|do|does)\b", re.IGNORECASE)


def noun_phrases(text: str) -> list[str]:
    """What follows a determiner: one or two words."""
    found = (_content(match) for match in _PHRASE.finditer(text.lower()))
    return [phrase for phrase, _ in found if phrase]


def swapped(text: str, phrases: list[str], rng: random.Random) -> str | None:
    """The text with other noun phrases behind its determiners; None where it has none."""

    def other(match: re.Match[str]) -> str:
        phrase, rest = _content(match)
        return f"{match[1]} {rng.choice(phrases)}{rest}" if phrase else match[0]

    changed = _PHRASE.sub(other, text)
    return None if changed == text else changed


def restyled(text: str, rng: random.Random) -> str:
    """The same request in another form; questions and long texts stay as they are."""
    inner = _HOW_TO.search(text)
    if inner and rng.random() < 0.7:
        return rng.choice(FORMS).format(inner[1].rstrip(".? "))
    if text.rstrip().endswith("?") or _QUESTION.match(text) or len(text.split()) > 25 or rng.random() < 0.3:
        return text
    return rng.choice(FORMS).format(text[:1].lower() + text[1:].rstrip(".?! "))


def _content(match: re.Match[str]) -> tuple[str, str]:
    """The content words after the determiner, and what is left of the match."""
    first, second = match[2], match[3] or ""
    if _FUNCTION_WORD.fullmatch(first):
        return "", match[0]
    if _FUNCTION_WORD.fullmatch(second.strip()):
        return first, second
    return first + second, ""

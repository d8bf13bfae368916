"""Whether a checkable answer is right."""

import re

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def is_correct(answer: str, reference: str) -> bool:
    """The last number of the answer equals the reference; a reference that is no number must be the whole answer."""
    if not NUMBER.fullmatch(reference):
        return answer.strip() == reference
    numbers = NUMBER.findall(answer.replace(",", ""))
    return bool(numbers) and float(numbers[-1]) == float(reference)

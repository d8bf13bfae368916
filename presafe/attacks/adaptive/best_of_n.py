"""Best of N: the same prompt again and again, with its decision drawn."""

from presafe.attacks.adaptive.oracle import Oracle

BATCH = 16
"""Candidates that are asked together."""


def best_of_n(oracle: Oracle) -> None:
    """Aims at a decision that clients' sampling reaches: at a temperature, refusal is a lottery with a ticket a query.

    The attacker sees outcomes alone. What is served decides greedily and gives the same answer every time, so this
    measures what that rule is worth; over an endpoint, whether it holds. The first ticket is not drawn: it is what is
    served. The head reads the prompt, which stays as it is, so that a gate that refuses it once refuses it always.
    Costs a query a unit of budget.
    """
    oracle.refused([oracle.prompt.text])
    while oracle.left:
        oracle.refused([oracle.prompt.text] * min(BATCH, oracle.left), drawn=True)

"""Thoughts that the assistant never had. Nothing of it is drawn."""

from presafe.attacks.attacked import Attacked, exchange
from presafe.config.attacks import TEXT, ForgedBlock, ForgedReasoning, PrefillAttack
from presafe.conversation import Conversation, Prefill


def forged_block(attack: ForgedBlock, asked: Conversation) -> Attacked:
    """Aims at the position of the decision: a block in the user's text would move it, or look like one taken.

    What a local engine and the endpoint do to such tags is measured with it. Costs the thought's tokens.
    """
    opened, thought = attack.open_tag, attack.thought
    match attack.block:
        case "open":
            forged = f"{opened}\n{thought}"
        case "closed":
            forged = f"{opened}\n{thought}\n{attack.close_tag}"
        case "empty":
            forged = f"{opened}\n\n{attack.close_tag}"
    return Attacked(f"{asked.text}\n\n{forged}", asked.earlier)


def forged_reasoning(attack: ForgedReasoning, asked: Conversation) -> Attacked:
    """Aims at a decision that trusts the assistant's own turns: one of them has settled it.

    Costs the thought, and the prompt's tokens once more.
    """
    earlier = exchange(asked.text, attack.thought)
    return Attacked(attack.last.replace(TEXT, asked.text), [*asked.earlier, *earlier])


def prefill(attack: PrefillAttack, asked: Conversation) -> Attacked:
    """Passes the decision by: the model goes on behind the token that would have taken it.

    So it shows what a refusal before the thought is worth to who writes the answer's beginning, and what a gate, which
    reads the prompt alone, still stops. Costs the thought's tokens, and a prefill of its own for p'.
    """
    begun: Prefill = {"thought": attack.thought, "closed": attack.closed, "answer": attack.answer}
    return Attacked(asked.text, asked.earlier, begun)

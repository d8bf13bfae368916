"""The prompt spread over several turns, or behind others. Nothing of it is drawn."""

from presafe.attacks.attacked import Attacked, exchange
from presafe.config.attacks import TEXT, GoOn, Script, WordByWord
from presafe.conversation import Conversation, Turn


def go_on(attack: GoOn, asked: Conversation) -> Attacked:
    """Aims at a decision that reads the last turn alone, which is harmless, behind an answer that seems to have begun.

    Costs a reply and a short turn.
    """
    return Attacked(attack.last, [*asked.earlier, *exchange(asked.text, attack.reply)])


def word_by_word(attack: WordByWord, asked: Conversation) -> Attacked:
    """Aims at a decision that reads turns one by one: none of them says what all say together.

    Costs the tokens around a turn, for each message.
    """
    words = asked.text.split()
    pieces = (" ".join(words[k : k + attack.words]) for k in range(0, len(words), attack.words))
    earlier = [turn for said in (attack.introduction, *pieces) for turn in exchange(said, attack.reply)]
    return Attacked(attack.last, [*asked.earlier, *earlier])


def script(attack: Script, asked: Conversation) -> Attacked:
    """Aims at a decision that follows the conversation so far, whose turns were all answered.

    The replies are scripted, not the model's own, so that all models are asked the same. Costs their tokens.
    """
    earlier: list[Turn] = []
    for said, answered in zip(attack.turns, attack.replies, strict=False):
        earlier += exchange(said, answered)
    return Attacked(attack.turns[-1].replace(TEXT, asked.text), [*asked.earlier, *earlier])

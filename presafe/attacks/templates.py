"""The prompt inside a template."""

import random
from collections.abc import Sequence

from presafe.attacks.attacked import Attacked
from presafe.config.attacks import TemplateAttack
from presafe.conversation import Conversation
from presafe.errors import user_error
from presafe.runtime import imported


def inside_template(
    attack: TemplateAttack, templates: Sequence[str], asked: Conversation, rng: random.Random
) -> Attacked:
    """Aims at a decision learnt on bare requests: around the same words stands a role, a game, a promise.

    Draws one of the templates. Costs the template's tokens.
    """
    template = rng.choice(templates)
    return Attacked(template.replace(attack.placeholder, asked.text), asked.earlier)


def templates_of(attack: TemplateAttack, seed: int) -> list[str]:
    """The templates of the config, or of its function. Raises UserError where that yields none, or a wrong one."""
    if attack.function is None:
        return attack.templates
    templates = [str(template) for template in imported(attack.function)(seed, **attack.options)]
    if not templates or not all(attack.placeholder in template for template in templates):
        raise user_error(
            found=f"{'a template' if templates else 'no template'} of {attack.function} without "
            f"{attack.placeholder!r} for attack {attack.name!r}",
            needed="templates that say where the prompt stands",
            change="correct the function, its options or the placeholder",
        )
    return templates

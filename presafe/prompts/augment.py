"""The wrapped copies of a run's training prompts: from every wrapper, fit to train on, counted."""

from presafe.config import Prompts, Wrapper
from presafe.errors import user_error
from presafe.prompts.contamination import find_overlaps, table
from presafe.prompts.load import load_templates
from presafe.prompts.normalise import dedupe_key
from presafe.prompts.report import Report
from presafe.prompts.wrap import Templates, copies, divide
from presafe.records import Prompt


def wrapped_copies(
    training: list[Prompt], suites: list[Prompt], settings: Prompts, seed: int, report: Report
) -> list[Prompt]:
    """Copies that are short enough, new, and in no suite. Raises UserError where a wrapper has nothing to train on."""
    known = {dedupe_key(prompt.text) for prompt in training}
    candidates: list[tuple[str, Prompt]] = []
    for wrapper in settings.wrappers:
        templates = _templates(wrapper, settings, seed, report)
        counts = report.copies[wrapper.name]
        for copy in copies(training, templates, seed):
            key = dedupe_key(copy.text)
            if len(copy.text) > settings.max_characters:
                counts.too_long += 1
            elif key in known:
                counts.duplicates += 1
            else:
                known.add(key)
                candidates.append((wrapper.name, copy))
    prompts = [copy for _, copy in candidates]
    overlaps = find_overlaps(suites, [copy.text for copy in prompts], settings.near_duplicates)
    report.contamination["wrapped_copies"] = table(overlaps, prompts)
    dropped = {overlap.text for overlap in overlaps}
    for number, (name, _) in enumerate(candidates):
        report.copies[name].contaminated += number in dropped
        report.copies[name].kept += number not in dropped
    return [copy for number, copy in enumerate(prompts) if number not in dropped]


def _templates(wrapper: Wrapper, settings: Prompts, seed: int, report: Report) -> Templates:
    loaded = load_templates(wrapper, settings, seed)
    templates = divide(wrapper, loaded.good, settings.near_duplicates, seed)
    if not templates.training:
        raise user_error(
            found=f"no template of wrapper {wrapper.name!r} to train on ({len(loaded.good)} in all)",
            needed="at least one that is not held out",
            change="add templates, or lower held_out_share",
        )
    counts = report.wrappers[wrapper.name]
    counts.read, counts.filtered = loaded.read, loaded.filtered
    counts.kept = len(templates.training) + len(templates.held_out)
    counts.exact_duplicates = len(loaded.good) - counts.kept
    counts.set_aside(loaded.bad)
    report.bad += loaded.bad
    report.add_templates(templates)
    return templates

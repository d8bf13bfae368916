"""`make bench-attacks [ARGS="--run runs/NAME"]`: how a decision changes with what a prompt is surrounded with.

On the run's own held-out prompts, against an endpoint of its model with `gate=shadow`, which shows the model's path and
the gate's: one that is started for it, or a running one (`--url`, with OPENAI_API_KEY where it asks for a key).
docs/security.md has the tables, results/serve_attacks.json each rate with its n and 95 % Wilson interval.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from tqdm import tqdm

from benchmarks.attack_rates import Outcome, Row, between_marks, compared, metrics, report
from benchmarks.ratio import save
from benchmarks.serve_load import presafe_server
from benchmarks.surroundings import FORGED, MISJUDGED, Around, Exchange, Material, Surrounding, drawn_around
from presafe import storage
from presafe.config import PrefixSettings
from presafe.engines.card import read_card
from presafe.engines.exported import check_model
from presafe.errors import UserError, user_error
from presafe.judges.prefixes import prefix_judge
from presafe.records import Prompt, Trace
from presafe.stages import RunDirectory
from presafe.suites import suite_prompts
from presafe.thinking import ThinkFormat

CONCURRENT, RETRIES, TIMEOUT_S = 48, 50, 600.0
JUDGE = prefix_judge(PrefixSettings())
"""Whether an answer's first words are a refusal's."""


def held_out(prompts: Sequence[Prompt], harmful: int, benign: int) -> list[Prompt]:
    """About so many harmful and other prompts of the suites, as many of each suite, the first by their hashes."""
    chosen = []
    for wanted, number in ((True, harmful), (False, benign)):
        rows = [prompt for prompt in prompts if (prompt.kind == "harmful") is wanted]
        suites = sorted({p.source for p in rows})
        for suite in suites:
            own = sorted((p for p in rows if p.source == suite), key=lambda p: p.prompt_id)
            chosen += own[: -(-number // len(suites))]
    return chosen


def material(run: str, think: ThinkFormat, prompts: Sequence[Prompt]) -> Material:
    """What the run's teacher stage left of the prompts for training: benign ones, and the model's traces."""
    path = f"{run}/teacher/traces.parquet"
    traces = storage.read_rows(path, Trace) if storage.exists(path) else []
    by_id = {p.prompt_id: p for p in prompts if p.wrapper is None}
    whole = [(by_id[t.prompt_id], t) for t in traces if t.finish_reason == "stop" and t.prompt_id in by_id]
    benign = [Exchange(p.text, t.reasoning, t.answer) for p, t in whole if p.kind == "benign"]
    problems = [p.text for p, _ in whole if p.kind == "reasoning"]
    if len(benign) < 2:
        raise user_error(
            found=f"{len(benign)} finished traces of benign prompts without a wrapper in {path}",
            needed="two or more, to surround prompts with",
            change="give a run whose teacher stage has finished, with benign prompts among its sources",
        )
    control = sorted(think.tokenizer.get_added_vocab())
    return Material(benign, problems or [e.prompt for e in benign], think.open_tag, think.close_tag, control)


async def asked(
    url: str, prompts: Sequence[tuple[str, Around]], surroundings: Sequence[Surrounding], max_tokens: int
) -> dict[str, list[Outcome]]:
    """What every prompt meets in every surrounding, by its name. Raises UserError where the gate is on."""
    free = asyncio.Semaphore(CONCURRENT)
    client = openai.AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        max_retries=RETRIES,  # after a 429 or a 503, as soon as the endpoint says
        timeout=TIMEOUT_S,
    )
    async with client:
        model = (await client.models.list()).data[0].id

        async def ask(surrounding: Surrounding, text: str, around: Around) -> Outcome:
            messages = surrounding.write(text, around)
            options = {"temperature": 0, "max_tokens": max_tokens, **surrounding.options}
            async with free:
                return await outcome(client, {"model": model, "messages": messages, **options})

        found = {}
        for surrounding in tqdm(surroundings, unit="surrounding"):
            found[surrounding.name] = await asyncio.gather(*(ask(surrounding, *prompt) for prompt in prompts))
    return found


async def outcome(client: openai.AsyncOpenAI, body: dict[str, Any]) -> Outcome:
    try:
        reply = await client.chat.completions.create(**body)
        if body.get("stream"):
            chunks = [chunk async for chunk in reply]
            shown, choices = chunks[-1].presafe, [choice for chunk in chunks for choice in chunk.choices]
            answer, reason = "".join(c.delta.content or "" for c in choices), choices[-1].finish_reason
        else:
            shown, choice = reply.presafe, reply.choices[0]
            answer, reason = choice.message.content or "", choice.finish_reason
    except openai.BadRequestError:
        return Outcome("rejected", None, answered=False)
    if shown["gate"] == "on":
        raise user_error(
            found="an endpoint whose gate is on, which hides the model's own path",
            needed="one that shows both",
            change="serve the model with gate=shadow",
        )
    whole = reason != "length" or JUDGE.decided(answer)
    return Outcome(shown["path"], shown["gate_path"], answered=whole and JUDGE(answer, "decided") == "comply")


@contextmanager
def endpoint(run: str, url: str | None) -> Iterator[str]:
    """The endpoint at `url`, or one of the run's model while this context lasts."""
    if url is not None:
        yield url.rstrip("/").removesuffix("/v1")
        return
    model = f"{run}/model"
    with presafe_server(model, gate="shadow", threshold=read_card(model).threshold) as server:
        yield server.url


def measured(run: str, url: str, harmful: int, benign: int, max_tokens: int) -> tuple[list[Row], list[Row]]:
    """Rows of what is forged, and of what the model may misjudge."""
    card = read_card(f"{run}/model")
    think = check_model(f"{run}/model/full" if card.weights == "full" else card.base_model)
    chosen = held_out([*suite_prompts(RunDirectory(run))], harmful, benign)
    found = material(run, think, storage.read_rows(f"{run}/prompts/prompts.parquet", Prompt))
    surrounded = [(prompt.text, drawn_around(prompt.prompt_id, found)) for prompt in chosen]
    outcomes = asyncio.run(asked(url, surrounded, MISJUDGED, max_tokens))
    outcomes |= asyncio.run(asked(url, surrounded, FORGED, 1))  # of which the decision alone counts
    kinds = [prompt.kind == "harmful" for prompt in chosen]
    return compared(outcomes, kinds, FORGED), compared(outcomes, kinds, MISJUDGED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="folder of a finished run")
    parser.add_argument("--url", help="a running endpoint of its model")
    parser.add_argument("--harmful", type=int, default=60, help="about so many harmful prompts")
    parser.add_argument("--benign", type=int, default=45, help="about so many others")
    parser.add_argument("--max-tokens", type=int, default=96, help="room for a thought and its answer's first words")
    parser.add_argument("--page", default="docs/security.md", help="Markdown whose tables are replaced")
    given = parser.parse_args()
    try:
        with endpoint(given.run, given.url) as url:
            forged, misjudged = measured(given.run, url, given.harmful, given.benign, given.max_tokens)
    except UserError as error:
        parser.error(str(error))
    save("serve_attacks", [*metrics([*forged, *misjudged])])
    page = Path(given.page)
    page.write_text(between_marks(page.read_text(), report(forged, misjudged)))


if __name__ == "__main__":
    main()

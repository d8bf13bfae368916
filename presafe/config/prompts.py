"""Section `prompts`."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from presafe.config.settings import HowItRuns, Settings
from presafe.records import Kind
from presafe.suites.catalogue import PUBLIC

ORIGINS = ("path", "function", "dataset")
CONVERSATION, BESIDE = ("text", "messages", "system"), ("kind", "category", "reference")
"""Fields of a source's rows: what is asked, and what is known of it."""
PLACES = {
    "path": (*ORIGINS, "subset", "split", "revision", "options"),
    "function": (*ORIGINS, "subset", "split", "revision", "options"),
    "dataset": ("path", "revision"),
}
"""By where a copy of a public suite is, what no longer counts of where the suite is: a clone has its configurations."""

Scalar = str | bool | int | float | None
"""A value as YAML writes it."""

Weight = Annotated[float, Field(ge=0.001, le=1000)]
"""Of a source in the alignment, read to the nearest fraction with a denominator of at most 1,000."""


class Origin(Settings):
    """Where rows come from: a file, a function, or a Hugging Face dataset."""

    name: str
    """Name kept with each row; of a public suite by default its own."""
    path: HowItRuns[str | None] = None
    """File by path or URL: .jsonl, .json, .csv, .tsv or .parquet, also compressed (.gz, .bz2, .xz, .zip)."""
    encoding: str = "utf-8"
    """Encoding of a text file without a byte order mark: cp1252 of what Windows programs save, say."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """Delimiter of a CSV file; by default the one of `,`, `;`, tab and `|` with which its header has the columns."""
    function: str | None = None
    """`module:function`, called with (seed, **options)."""
    dataset: str | None = None
    """Hugging Face dataset: a hub name, or a folder that `datasets` wrote or can load; needs `presafe[datasets]`."""
    subset: str | None = None
    """Configuration of `dataset`, where it has several."""
    split: str = "train"
    """Split of `dataset`."""
    revision: HowItRuns[str | None] = None
    """Commit, tag or branch of a hub dataset; pin a commit, since a dataset may change."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `function`, or of `datasets.load_dataset` (data_files, delimiter, ...)."""
    where: dict[str, Scalar | list[Scalar]] = {}
    """Rows that are read: by column, the value or values that it must have, whatever its case; null is missing."""
    limit: int | None = Field(None, ge=1)
    """At most so many good rows, the first ones."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ValueError(f"{error}; utf-8, cp1252, latin-1, utf-16, shift_jis and gb18030 are some") from error
        return encoding

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(getattr(self, name) is not None for name in ORIGINS) != 1:
            raise ValueError("needs exactly one of `path`, `function` and `dataset`")
        if self.dataset is not None and (doubled := self.options.keys() & {"path", "name", "split", "revision"}):
            raise ValueError(f"options {sorted(doubled)} have fields of their own: dataset, subset, split, revision")
        return self

    @property
    def origin(self) -> str:
        """The file, function or dataset, for messages."""
        return str(self.path or self.function or self.dataset)


class Source(Origin):
    """One source of prompts; a function yields rows as dicts."""

    public: HowItRuns[str | None] = None
    """A public data set by the name that `presafe suites` lists: where it is, its columns, kind, form and rows need not
    be said, nor its name. What is said beside it counts, so that `path` or `dataset` leads to a copy of one's own."""
    columns: dict[str, str | list[str]] = {}
    """Where text, kind, category and reference are; default the column of that name. `messages`: the column of whole
    conversations, instead of `text`; `system`: that of their system messages. `turns[0]`, `messages[0].content`: inside
    a column. `"{Context}\\n\\n{Behavior}"`: joined, missing ones left out. A list: the first that is not missing
    (a template is, where any of its columns is)."""
    kinds: dict[str | bool | int, Kind] = {}
    """Kind by the value of the column `kind`, where that is another's: `{safe: benign, unsafe: harmful}`."""
    extract: dict[str, str] = {}
    """Regular expression by field, whose first group is the value: `{reference: "#### (.+)"}`."""
    kind: Kind | None = None
    """Kind of all rows, where they have no such column."""
    choices: list[str] | None = Field(None, min_length=2, max_length=10)
    """Columns of a question's options, the right one first. They stand behind the text as `A) ...`, in an order that
    follows from the question alone, and the right one's letter is the reference."""
    form: str | None = None
    """What a prompt says around its text, with `{text}` where that stands: how a final answer is to be written, say."""
    rows: HowItRuns[int | None] = Field(None, ge=1)
    """How many rows there must be behind `where`, whatever the `limit`: others are told as a set that has changed."""

    @model_validator(mode="before")
    @classmethod
    def _public(cls, values: Any) -> Any:
        """The fields of the public suite, below what is said beside its name."""
        if not isinstance(values, dict) or (name := values.get("public")) is None:
            return values
        if name not in PUBLIC:
            near = get_close_matches(str(name), PUBLIC, n=1, cutoff=0.5)
            meant = f", did you mean {near[0]}?" if near else "; `presafe suites` lists them"
            raise ValueError(f"no public suite {name!r}{meant}")
        replaced = {field for place, fields in PLACES.items() if values.get(place) is not None for field in fields}
        described = {field: value for field, value in PUBLIC[name].source.items() if field not in replaced}
        return {"name": name, **described, **values}

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.form is not None and self.form.count("{text}") != 1:
            raise ValueError("form needs {text} once, where the prompt's text stands")
        if self.in_messages and (self.choices or self.form):
            raise ValueError("choices and form stand around a text; a row of messages has none")
        if self.choices and "reference" in self.columns:
            raise ValueError("maps both choices and a reference; the first of the choices is the reference")
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        if unknown := (self.columns.keys() | self.extract.keys()) - {*CONVERSATION, *BESIDE}:
            raise ValueError(f"maps unknown columns {sorted(unknown)}; known are {', '.join((*CONVERSATION, *BESIDE))}")
        if self.in_messages and "text" in self.columns:
            raise ValueError("maps both text and messages; a row has the one or the other")
        if "messages" in self.extract:
            raise ValueError("extracts from messages, which are no text; map `text` to a place in them instead")
        if stray := self.extract.keys() - set(self.fields):
            raise ValueError(f"extracts {sorted(stray)}, which its rows do not have; map its column")
        if empty := [name for name, spec in self.columns.items() if not spec or not all(spec)]:
            raise ValueError(f"columns of {empty} name none")
        return self

    @field_validator("extract")
    @classmethod
    def _expressions(cls, extract: dict[str, str]) -> dict[str, str]:
        for pattern in extract.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return extract

    @property
    def in_messages(self) -> bool:
        """Whether a row has a conversation, not a text."""
        return "messages" in self.columns

    @property
    def fields(self) -> tuple[str, ...]:
        """What is read of a row; a system message only where its column is named."""
        system = ("system",) if "system" in self.columns else ()
        return ("messages" if self.in_messages else "text", *system, *BESIDE)

    @property
    def mapped(self) -> set[str]:
        """Fields whose columns must be there."""
        kind = {"kind"} if self.kind is None else set()
        return {"messages" if self.in_messages else "text", *self.columns, *kind}


class TrainingSource(Source):
    """A source of training prompts."""

    weight: Weight = 1.0
    """How often one of its demonstrations is drawn in the alignment, against one of a source of weight 1."""


class Wrapper(Origin):
    """Jailbreak templates that wrap training prompts, so that the signal is learnt inside wrappers too.

    A function yields templates as strings. Harmful and benign prompts are wrapped alike: otherwise the wrapper itself
    would be the signal.
    """

    column: str = "text"
    """Column that holds the template, as in a source's `columns`."""
    placeholder: str = Field("[INSERT PROMPT HERE]", min_length=1)
    """What the prompt replaces; a template without it is quarantined."""
    copies: int = Field(1, ge=1)
    """Wrapped copies a prompt; a validation prompt gets so many more in held-out templates."""
    held_out_share: float = Field(0.2, ge=0, lt=1)
    """Share of the templates that wrap validation prompts alone."""
    kinds: list[Kind] = ["harmful", "benign", "reasoning"]
    """Kinds of prompts that are wrapped."""


class NearDuplicates(Settings):
    """Likeness of two prompts: the Jaccard similarity of their sets of word shingles. All values are ours."""

    action: Literal["drop", "keep"] = "drop"
    """Whether near-duplicates of one kind and reference are dropped but the first."""
    threshold: float = Field(0.85, gt=0, le=1)
    """From here on two training prompts are the same one, and the later is dropped."""
    contamination_threshold: float = Field(0.7, gt=0, le=1)
    """From here on a training prompt is one of a suite's: a word or two changed in a sentence."""
    cluster_threshold: float = Field(0.5, gt=0, le=1)
    """From here on two training prompts share a cluster, and so a split."""
    shingle_words: int = Field(3, ge=1)
    """Words a shingle."""
    permutations: int = Field(256, ge=16)
    """Length of a MinHash signature; with 256, 98 % of the pairs at 0.5 are found, and 99.98 % of those at 0.6."""
    max_cluster_share: float = Field(0.05, gt=0, le=1)
    """A cluster that chains more than this share of all prompts is taken apart at a higher threshold."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.cluster_threshold > self.threshold:
            raise ValueError("cluster_threshold is above threshold; near-duplicates must share a cluster")
        return self


class Prompts(Settings):
    """Stage `prompts`: freeze the suites; load, normalise, dedupe, decontaminate, split, wrap what is trained on."""

    sources: list[TrainingSource] = Field(min_length=1)
    """Training sources."""
    keep_clear_of: HowItRuns[list[str] | None] = None
    """Names of the suites whose like is dropped from training, and counted; by default all of `suites`. Where they are
    named, a suite that is added later costs its own answers alone: of its prompts, those that are like a training
    prompt are reported and left out of the figures."""
    wrappers: list[Wrapper] = []
    """Jailbreak templates around training prompts; none by default."""
    classifier_prompts: int = Field(1500, ge=1)
    """Prompts whose decisions train the classifier (about 1,500 in notes on the paper); before wrapping."""
    validation_prompts: int = Field(300, ge=1)
    """Prompts held out of all training, for the classifier's metrics and the gate's threshold; before wrapping."""
    max_characters: int = Field(20_000, ge=1)
    """Longer prompts and templates are quarantined."""
    max_quarantined_share: HowItRuns[float] = Field(0.0, ge=0, le=1)
    """Above this share of bad rows in a source the stage fails; below it they are set aside in quarantine/."""
    max_contaminated_share: HowItRuns[float] = Field(0.5, ge=0, le=1)
    """Above this share of a source in the suites that training is kept clear of, the stage fails: it is a suite."""
    near_duplicates: NearDuplicates = NearDuplicates()
    """Near-duplicates and clusters."""

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        for field in ("sources", "wrappers"):
            check_unique(field, getattr(self, field))
        return self


def check_unique(field: str, entries: Sequence[Origin]) -> None:
    """Raise ValueError where two have one name."""
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError(f"{field} of the same name; give each its own")

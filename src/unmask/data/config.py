"""What a run reads: the ``corpus`` section of the configuration."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unmask.base.errors import unknown
from unmask.base.numbers import LARGEST_COUNT
from unmask.base.section import Section
from unmask.data.records import Fields


class CorpusConfig(Section):
    """Which text is read, how it becomes tokens and how those are packed into blocks."""

    source: str = Field(
        "python-stdlib",
        description="text to train on: a named corpus (python-stdlib, tinystories, ...), "
        "hf:NAME, or a file, folder or pattern; several joined by ' + ', a mixture where each "
        "has a weight (a.jsonl:weight=3 + tinystories:weight=1)",
    )
    valid_source: str | None = Field(
        None,
        description="a second source, all of it (its training split if it has splits) "
        "validation text; without it the source's own validation split or held-out documents",
    )
    valid_fraction: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="fraction of documents held out, chosen by their hash, "
        "when there is no validation split",
    )
    tokenizer: str = Field(
        "bytes",
        description="bytes, bpe:N (trained on the training text, N entries in all), "
        "or the name or folder of a Hugging Face tokenizer",
    )
    prompt_field: str | None = Field(
        None,
        min_length=1,
        description="field of a record that holds a prompt, which is read and never predicted; the "
        "text is the answer to it (in packing pad)",
    )
    messages_field: str | None = Field(
        None,
        min_length=1,
        description="field of a record that holds a conversation, a list of {role, content}, "
        "written by the tokenizer's chat template: the assistant's last message is predicted, all "
        "before it is the prompt (in packing pad)",
    )
    block_size: int = Field(128, ge=2, le=2**20, description="tokens in a block")
    packing: Literal["wrap", "pad"] = Field(
        "wrap",
        description="wrap: documents joined and cut into full blocks; "
        "pad: one document a block, cut or padded",
    )
    attend: Literal["block", "document"] = Field(
        "block",
        description="how far a token sees: over its whole block, or within its own document, whose "
        "separators are then read and never predicted (in packing wrap)",
    )
    transform: str = Field(
        "none",
        description="order that a block's tokens are read in: none, permute-positions, "
        "shuffle-tokens, reverse (one fixed order of the positions; an order of each block's "
        "own; backwards)",
    )

    processes: int = Field(
        0,
        ge=0,
        le=4096,
        description="processes that turn text into tokens, with the same result; 0: one a core",
    )

    streaming: bool = Field(
        False,
        description="read the training text while training instead of packing it before: for "
        "corpora larger than memory or disk",
    )
    shuffle: int = Field(
        10_000,
        ge=1,
        le=LARGEST_COUNT,
        description="streaming: documents that are shuffled among each other, and held in memory",
    )
    lanes: int = Field(
        8,
        ge=1,
        le=4096,
        description="streaming: parts of the text that are read side by side, which processes "
        "and their workers divide between them; best a number that divides the number of files",
    )
    valid_documents: int = Field(
        1000,
        ge=1,
        le=LARGEST_COUNT,
        description="streaming: the first so many documents are validation text, of the source's "
        "own validation split if it has one",
    )

    @field_validator("source", "valid_source", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """A YAML list of sources as one text."""
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return " + ".join(value)
        return value

    @field_validator("transform")
    @classmethod
    def _known(cls, name: str) -> str:
        from unmask.data.transforms import TRANSFORMS  # noqa: PLC0415 - imports torch

        if name not in TRANSFORMS:
            raise unknown("transform", name, TRANSFORMS)
        return name

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        if not self.fields.prompted:
            return self
        if self.prompt_field is not None and self.messages_field is not None:
            raise ValueError(
                "prompt_field: messages_field holds the prompts already; give one of the two"
            )
        if self.packing != "pad":
            raise ValueError(
                f"packing: must be pad where records have prompts, not {self.packing}: each answer "
                "stands in a block with its own prompt"
            )
        if self.transform != "none":
            raise ValueError(
                f"transform: must be none where records have prompts, not {self.transform}"
            )
        return self

    @model_validator(mode="after")
    def _check_attend(self) -> Self:
        if self.attend == "document":
            if self.packing != "wrap":
                raise ValueError(
                    f"attend: document is for packing wrap; in packing {self.packing} a block "
                    "holds one document anyway"
                )
            if self.transform != "none":
                raise ValueError(f"attend: document needs transform none, not {self.transform}")
        return self

    @property
    def fields(self) -> Fields:
        """Which fields of a record are read."""
        return Fields(prompt=self.prompt_field, messages=self.messages_field)

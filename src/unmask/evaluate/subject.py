"""What is evaluated: a run's checkpoint or a masked language model of `transformers`."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from unmask.base.errors import UserError
from unmask.base.paths import looks_like_path, missing_path
from unmask.data.config import CorpusConfig
from unmask.data.tokenizers import Tokenizer, hub_tokenizer
from unmask.model.denoiser import Denoiser
from unmask.model.pretrained import load_masked_network
from unmask.run import Run, open_run
from unmask.start import check_mask, largest_block, masked_lm

_VALID = "a run's folder, or the folder or hub name of a Hugging Face masked language model"
_LONGEST_BLOCK = 512
"""What a Hugging Face model is given at most, unless asked for: attention grows with its square."""


@dataclass(frozen=True)
class Subject:
    """A model with all that scoring a text takes.

    Attributes:
        name: the run's folder, or the Hugging Face model.
        denoiser: the network.
        tokenizer: its own.
        block_size: tokens it reads at once.
        packing: how a text becomes blocks, ``wrap`` or ``pad``.
        checkpoint: the run's step; None for a Hugging Face model.
        corpus: what a run, in the folder ``name``, was trained on.
        largest: the most tokens it can read at once; None: any number.
    """

    name: str
    denoiser: Denoiser
    tokenizer: Tokenizer
    block_size: int
    packing: str
    checkpoint: int | None = None
    corpus: CorpusConfig | None = field(default=None, repr=False)
    largest: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.denoiser.head.weight.device


def open_subject(
    name: str, checkpoint: str = "last", device: torch.device | None = None
) -> Subject:
    """Open a run's folder, or a Hugging Face masked language model by its folder or hub name.

    Args:
        name: the folder or name.
        checkpoint: of a run: ``last``, ``best`` or a step number.
        device: where the network is to run; None: the CPU.

    Raises:
        UserError: it is neither, or cannot be opened.
    """
    folder, device = Path(name), device or torch.device("cpu")
    if (folder / "config.yaml").is_file():
        run = open_run(folder, checkpoint)
        run.model.to(device)
        return subject_of(run)
    if not folder.exists() and looks_like_path(name):
        raise missing_path("model", name, _VALID)
    if folder.exists() and not (folder / "config.json").is_file():
        raise UserError(
            f"{name} is neither a run (it holds no config.yaml) nor a Hugging Face model "
            "(it holds no config.json)"
        )
    if checkpoint != "last":
        raise UserError(f"checkpoint: {checkpoint} is for runs, and {name} is none")
    try:
        return _masked_lm(name, device)
    except UserError as error:
        if folder.exists():
            raise
        raise UserError(f"{name} is no run's folder, and no Hugging Face model: {error}") from None


def subject_of(run: Run) -> Subject:
    """A run as what is evaluated; its model stays where it is."""
    return Subject(
        name=str(run.folder),
        denoiser=run.model,
        tokenizer=run.tokenizer,
        block_size=run.config.corpus.block_size,
        packing=run.config.corpus.packing,
        checkpoint=run.checkpoint.progress.step,
        corpus=run.config.corpus,
    )


def _masked_lm(name: str, device: torch.device) -> Subject:
    tokenizer = hub_tokenizer(name)
    check_mask(tokenizer, name)  # before the weights are read
    network = load_masked_network(name)
    model = masked_lm(network, tokenizer, name)
    largest = largest_block(network, tokenizer)
    return Subject(
        name=name,
        denoiser=model.eval().to(device),
        tokenizer=tokenizer,
        block_size=min(largest, _LONGEST_BLOCK),
        packing="wrap",
        largest=largest,
    )

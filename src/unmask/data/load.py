"""From a configuration to tokenizer and blocks."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.data.blocks import Blocks, Facts, read_blocks, read_facts, write_blocks
from unmask.data.cache import cache_folder, kept
from unmask.data.config import CorpusConfig
from unmask.data.documents import Documents, digest, hold_out
from unmask.data.progress import Display, Watch
from unmask.data.sources import open_source
from unmask.data.tokenizers import Tokenizer, load_tokenizer
from unmask.errors import UserError


@dataclass(frozen=True)
class Data:
    """A corpus, ready.

    Attributes:
        tokenizer: of both splits.
        train: training blocks.
        valid: validation blocks.
        facts: what was read, fit for JSON: ``source``, ``sha256``, ``tokenizer``, ``transform``,
            and ``documents``, ``bytes``, ``tokens`` and ``blocks`` of each split.
    """

    tokenizer: Tokenizer
    train: Blocks
    valid: Blocks
    facts: dict[str, Any]


def load_data(
    config: CorpusConfig, cache: Path | None = None, console: Console | None = None
) -> Data:
    """Read, split, tokenize and pack a corpus; what was done before comes from the cache.

    Args:
        config: the ``corpus`` section.
        cache: the cache folder, if not the user's.
        console: where to show progress; None: nowhere.

    Raises:
        UserError: anything wrong with the corpus, the tokenizer or the block size.
    """
    cache = cache_folder(cache)
    display = Display(console)
    train, valid = _splits(config, quiet=console is None)
    with display.stage("training the tokenizer") as watch:
        tokenizer = load_tokenizer(config.tokenizer, watch(train), train.identity, cache)
    packed = {}
    for name, documents in (("training", train), ("validation", valid)):
        with display.stage(f"packing the {name} text") as watch:
            packed[name] = _pack(documents, watch, tokenizer, config, cache)
    name, (blocks, found) = min(packed.items(), key=lambda split: split[1][1].tokens)
    if not len(blocks):  # the shorter split, so that what it allows is right for both
        raise UserError(
            f"corpus.block-size {config.block_size} is longer than the {name} split "
            f"({found.tokens} tokens); at most {found.tokens}"
        )
    (train_blocks, train_facts), (valid_blocks, valid_facts) = packed.values()
    facts = {
        "source": config.source,
        "sha256": digest(train.identity, valid.identity),
        "tokenizer": config.tokenizer,
        "transform": config.transform,
        "train": asdict(train_facts),
        "valid": asdict(valid_facts),
    }
    return Data(tokenizer, train_blocks, valid_blocks, facts)


def _splits(config: CorpusConfig, quiet: bool) -> tuple[Documents, Documents]:
    source = open_source(config.source, quiet)
    if config.valid_source is not None:
        return source.train, open_source(config.valid_source, quiet, "corpus.valid-source").train
    if source.valid is not None:
        return source.train, source.valid
    return hold_out(source.train, config.valid_fraction)


def _pack(
    documents: Documents, watch: Watch, tokenizer: Tokenizer, config: CorpusConfig, cache: Path
) -> tuple[Blocks, Facts]:
    key = digest(
        "blocks", 1, documents.identity, tokenizer.fingerprint, config.block_size, config.packing
    )
    folder = kept(
        cache,
        f"blocks/{key}",
        whole=lambda folder: read_facts(folder) is not None,
        make=lambda folder: write_blocks(
            folder, watch(documents), tokenizer, config.block_size, config.packing
        ),
    )
    found = read_facts(folder)
    assert found is not None  # `kept` has just looked
    return replace(read_blocks(folder, found), transform=config.transform), found

"""From a configuration to tokenizer and blocks."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.base.errors import UserError
from unmask.data.blocks import Blocks, Facts, read_blocks, read_facts, write_blocks
from unmask.data.cache import cache_folder, kept
from unmask.data.config import CorpusConfig
from unmask.data.documents import Documents, digest, hold_out
from unmask.data.progress import Display, Watch
from unmask.data.sources import open_source
from unmask.data.tokenizers import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Data:
    """A corpus, ready.

    Attributes:
        tokenizer: of both splits.
        train: training blocks.
        valid: validation blocks.
        facts: what was read, fit for JSON: ``source``, ``sha256``, ``tokenizer``, ``transform``,
            and ``documents``, ``bytes``, ``lost_bytes``, ``tokens``, ``unknown_tokens`` and
            ``blocks`` of each split.
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
        UserError: anything wrong with the corpus, the tokenizer or the block size, or the
            tokenizer loses most of the text.
    """
    cache = cache_folder(cache)
    display = Display(console)
    train, valid = _splits(config, quiet=console is None)
    with display.stage("training the tokenizer") as watch:
        tokenizer = load_tokenizer(config.tokenizer, watch(train), train.identity, cache)
    packed = {}
    for name, documents in (("training", train), ("validation", valid)):
        with display.stage(f"packing the {name} text") as watch:
            packed[name] = _pack(
                watch, documents, tokenizer, config.block_size, config.packing, cache
            )
    for name, (blocks, _) in packed.items():
        _tell_lost(f"the {name} text", blocks, console)
    name, (blocks, found) = min(packed.items(), key=lambda split: split[1][1].tokens)
    if not len(blocks):  # the shorter split, so that what it allows is right for both
        raise UserError(
            f"corpus.block-size {config.block_size} is longer than the {name} split "
            f"({found.tokens} tokens); at most {found.tokens}"
        )
    (train_blocks, train_facts), (valid_blocks, valid_facts) = packed.values()
    train_blocks, valid_blocks = (
        replace(blocks, transform=config.transform) for blocks in (train_blocks, valid_blocks)
    )
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
    watch: Watch,
    documents: Documents,
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    cache: Path,
) -> tuple[Blocks, Facts]:
    key = digest("blocks", 2, documents.identity, tokenizer.fingerprint, block_size, packing)
    folder = kept(
        cache,
        f"blocks/{key}",
        whole=lambda folder: read_facts(folder) is not None,
        make=lambda folder: write_blocks(folder, watch(documents), tokenizer, block_size, packing),
    )
    found = read_facts(folder)
    assert found is not None  # `kept` has just looked
    return read_blocks(folder, found), found


def own_validation(config: CorpusConfig, sha256: str) -> Documents:
    """The validation documents of a corpus that a run was trained on.

    Args:
        config: the run's ``corpus`` section.
        sha256: what `load_data` found then, in its facts.

    Raises:
        UserError: the corpus cannot be read, or is no longer what it was.
    """
    train, valid = _splits(config, quiet=True)
    now = digest(train.identity, valid.identity)
    if now != sha256:
        raise UserError(
            f"the corpus {config.source} is no longer what the run was trained on (SHA-256 "
            f"{sha256[:12]} then, {now[:12]} now), so its validation split is not either; "
            "name a text with corpus.source"
        )
    return valid


def whole_text(spec: str, quiet: bool = True) -> Documents:
    """What of a corpus is evaluated: its validation split if it has one, else all documents."""
    source = open_source(spec, quiet)
    return source.valid or source.train


def pack_text(
    documents: Documents,
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    *,
    cache: Path | None = None,
    console: Console | None = None,
) -> Blocks:
    """Pack documents with a tokenizer that is there already; from the cache if done before.

    Args:
        packing: ``wrap``, ``pad`` or ``cover`` (see `unmask.data.blocks.PACKINGS`).

    Raises:
        UserError: the tokenizer loses most of the text.
    """
    with Display(console).stage(f"packing {documents.name}") as watch:
        found = _pack(watch, documents, tokenizer, block_size, packing, cache_folder(cache))
    _tell_lost(documents.name, found[0], console)
    return found[0]


def _tell_lost(text: str, blocks: Blocks, console: Console | None) -> None:
    warning = blocks.coverage.warning(text)
    if warning is not None and console is not None:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)

"""From a configuration to tokenizer and blocks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from unmask.base.errors import UserError
from unmask.base.wording import counted
from unmask.data.blocks import (
    Blocks,
    Facts,
    TrainingText,
    read_blocks,
    read_facts,
    write_blocks,
)
from unmask.data.cache import cache_folder, kept
from unmask.data.chat import check_chat_template
from unmask.data.config import CorpusConfig
from unmask.data.documents import (
    Document,
    Documents,
    Source,
    digest,
    first_documents,
    hold_out,
    joined,
    texts_of,
)
from unmask.data.lanes import Corpus, Packing
from unmask.data.mixture import in_proportion, side_by_side
from unmask.data.progress import Display
from unmask.data.recorded import check_same_corpus
from unmask.data.records import PLAIN, Fields
from unmask.data.sources import Share, open_corpus, open_shards
from unmask.data.stream import Settings, TextStream, beginning
from unmask.data.tokenizers import Tokenizer, is_ours, load_tokenizer


@dataclass(frozen=True)
class Data:
    """A corpus, ready.

    Attributes:
        tokenizer: of both splits.
        train: training blocks, or the stream of them.
        valid: validation blocks; of a mixture, those of `unmask.data.mixture.in_proportion`.
        facts: what was read, fit for JSON: ``source``, ``sha256``, ``tokenizer``, ``transform``,
            and ``documents``, ``bytes``, ``lost_bytes``, ``tokens``, ``unknown_tokens`` and
            ``blocks`` of each split; in ``parts`` of a split the same for each corpus of a mixture,
            with its ``weight`` and ``sha256``. Of a stream ``train`` has ``shards`` alone.
    """

    tokenizer: Tokenizer
    train: TrainingText
    valid: Blocks
    facts: dict[str, Any]

    @property
    def blocks(self) -> Blocks:
        """All training blocks.

        Raises:
            UserError: they are a stream.
        """
        if isinstance(self.train, Blocks):
            return self.train
        raise UserError("this needs all of the training text at once, so corpus.streaming false")


class _Part(NamedTuple):
    """What a split has of a corpus; of all its text, where it is no mixture."""

    spec: str
    weight: int
    documents: Documents


_Split = list[_Part]
_Packed = tuple[Blocks, Facts]

_COUNTS = ("documents", "bytes", "lost_bytes", "tokens", "unknown_tokens", "blocks")
_VALID_FIELD = "corpus.valid_source"
_TRAINED_ON = 2**25
"""Letters of a stream that a tokenizer is trained on."""
_MUCH = 0.9
"""A share of padding that is warned of."""


def load_data(
    config: CorpusConfig,
    cache: Path | None = None,
    console: Console | None = None,
    *,
    run: Path | None = None,
) -> Data:
    """Read, split, tokenize and pack a corpus; what was done before comes from the cache.

    Args:
        config: the ``corpus`` section.
        cache: the cache folder, if not the user's.
        console: where to show progress; None: nowhere.
        run: the folder of a run that was trained on this corpus; None: of none.

    Raises:
        UserError: anything wrong with the corpus, the tokenizer or the block size; or the corpus is
            no longer that of the run, which is told before it is packed; or the tokenizer loses
            most of the text.
    """
    cache = cache_folder(cache)
    display = Display(console)
    if config.messages_field is not None and is_ours(config.tokenizer):
        check_chat_template(config.tokenizer, None)  # told before the corpus is read
    if config.streaming:
        return _load_stream(config, cache, display, run)
    train, valid = _splits(config, console)
    if run is not None:
        _check_same(run, config, train, valid)
    text = joined([part.documents for part in train])  # which a bpe:N is trained on
    with display.stage("training the tokenizer") as watch:
        tokenizer = _tokenizer(config, watch(text), text.identity, cache)
    how = config.block_size, config.packing, cache, config.fields, config.processes, config.attend
    packed = {
        name: [
            _pack(display, f"the {name} text", part.documents, tokenizer, *how) for part in split
        ]
        for name, split in (("training", train), ("validation", valid))
    }
    _check_lengths(packed, config.block_size)
    train_blocks = side_by_side(*_weighted(packed["training"], train))
    valid_blocks = in_proportion(*_weighted(packed["validation"], valid))
    _warn_of_padding(train_blocks, display)
    facts = {
        "source": config.source,
        "sha256": _identity(train, valid),
        "tokenizer": config.tokenizer,
        "transform": config.transform,
        "train": _facts(train, packed["training"]),
        "valid": _facts(valid, packed["validation"]),
    }
    train_blocks = replace(train_blocks, transform=config.transform)
    valid_blocks = replace(valid_blocks, transform=config.transform)
    return Data(tokenizer, train_blocks, valid_blocks, facts)


def pack_own_validation(
    run: Path,
    config: CorpusConfig,
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    *,
    cache: Path | None = None,
    console: Console | None = None,
) -> Blocks:
    """Pack the validation text of the corpus that a run was trained on.

    Args:
        run: the run's folder.
        config: its ``corpus`` section.
        tokenizer: the run's own.
        block_size: tokens in a block.
        packing: as for `pack_text`.

    Raises:
        UserError: the corpus cannot be read, or is no longer what it was; or it has prompts, which
            are not wrapped.
    """
    if config.fields.prompted and packing != "pad":
        raise UserError(f"packing {packing}: the run's records have prompts; valid: pad")
    display, cache = Display(console), cache_folder(cache)
    if config.streaming:
        streams, valid = _stream_splits(config, Display(None))
        check_same_corpus(
            run, {"source": config.source, "sha256": _stream_identity(streams, valid)}
        )
    else:
        train, valid = _splits(config, None)
        _check_same(run, config, train, valid)
    how = block_size, packing, cache, config.fields, config.processes, config.attend
    packed = [_pack(display, "the validation text", p.documents, tokenizer, *how) for p in valid]
    if not all(len(blocks) for blocks, _ in packed):
        name = " + ".join(part.documents.name for part in valid)
        raise UserError(f"{name} is shorter than one block of {block_size} tokens")
    return in_proportion(*_weighted(packed, valid))


def whole_text(spec: str, console: Console | None = None) -> Documents:
    """What of a corpus is evaluated: its validation split if it has one, else all documents.

    Raises:
        UserError: it cannot be opened, or is a mixture.
    """
    shares = _opened(spec, "corpus.source", Display(console))
    if len(shares) > 1:
        raise UserError(f"{spec!r}: a mixture is for training; evaluate its corpora one by one")
    return joined([source.valid or source.train for source in shares[0].sources])


def pack_text(
    documents: Documents,
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    *,
    attend: str = "block",
    cache: Path | None = None,
    console: Console | None = None,
) -> Blocks:
    """Pack documents with a tokenizer that is there already; from the cache if done before.

    Args:
        packing: ``wrap``, ``pad`` or ``cover`` (see `unmask.data.blocks.PACKINGS`).
        attend: how far the network that reads them sees, ``block`` or ``document``.

    Raises:
        UserError: the tokenizer loses most of the text.
    """
    display, folder = Display(console), cache_folder(cache)
    how = block_size, packing, folder
    return _pack(display, documents.name, documents, tokenizer, *how, attend=attend)[0]


# --- from sources to splits -------------------------------------------------------------------


def _opened(spec: str, field: str, display: Display, fields: Fields = PLAIN) -> list[Share]:
    shares = open_corpus(spec, display.silent, field, fields)
    for share in shares:
        for source in share.sources:
            if source.summary:
                display.line(f"{field} {source.train.name}: {source.summary}")
    return shares


def _splits(config: CorpusConfig, console: Console | None) -> tuple[_Split, _Split]:
    display = Display(console)
    fields = config.fields
    shares = _opened(config.source, "corpus.source", display, fields)
    if config.valid_source is None:
        halves = [(share, *_held_out(share.sources, config.valid_fraction)) for share in shares]
        train = [_Part(share.spec, share.weight, text) for share, text, _ in halves]
        return train, [_Part(share.spec, share.weight, text) for share, _, text in halves]
    train = [_all_of(share) for share in shares]
    valid = [
        _all_of(share) for share in _opened(config.valid_source, _VALID_FIELD, display, fields)
    ]
    if {p.documents.identity for p in train} & {p.documents.identity for p in valid}:
        display.line(
            f"warning: {_VALID_FIELD} {config.valid_source} is text that is trained on, so its "
            "bound says nothing about new text"
        )
    return train, valid


def _all_of(share: Share) -> _Part:
    text = joined([source.train for source in share.sources])
    return _Part(share.spec, share.weight, text)


def _held_out(sources: Sequence[Source], fraction: float) -> tuple[Documents, Documents]:
    """Training and validation documents: each source's own, or held out of all the others."""
    pairs = [(source.train, source.valid) for source in sources if source.valid is not None]
    rest = [source.train for source in sources if source.valid is None]
    if rest:
        pairs.append(hold_out(joined(rest), fraction))
    return joined([train for train, _ in pairs]), joined([valid for _, valid in pairs])


def _check_same(run: Path, config: CorpusConfig, train: _Split, valid: _Split) -> None:
    check_same_corpus(run, {"source": config.source, "sha256": _identity(train, valid)})


def _identity(train: _Split, valid: _Split) -> str:
    if len(train) == len(valid) == 1:
        return digest(train[0].documents.identity, valid[0].documents.identity)
    of = [[[part.weight, part.documents.identity] for part in split] for split in (train, valid)]
    return digest("mixture", 1, of)


# --- streams ----------------------------------------------------------------------------------


def _load_stream(config: CorpusConfig, cache: Path, display: Display, run: Path | None) -> Data:
    streams, valid = _stream_splits(config, display)
    identity = _stream_identity(streams, valid)
    if run is not None:
        check_same_corpus(run, {"source": config.source, "sha256": identity})
    corpora = tuple(stream.corpus for stream in streams)
    first = Documents(config.source, identity, lambda: _first_letters(corpora))
    with display.stage("training the tokenizer") as watch:
        tokenizer = _tokenizer(config, watch(first), digest("first", identity), cache)
    how = config.block_size, config.packing, cache, config.fields, config.processes, config.attend
    packed = [
        _pack(display, "the validation text", part.documents, tokenizer, *how) for part in valid
    ]
    _check_lengths({"validation": packed}, config.block_size)
    valid_blocks = in_proportion(*_weighted(packed, valid))
    window = max(1, config.shuffle // (config.lanes * len(corpora)))
    packing = Packing(tokenizer, config.block_size, config.packing == "pad", window)
    separator = tokenizer.separator_id if config.attend == "document" else None
    settings = Settings(packing, config.lanes, config.transform, config.processes, separator)
    facts = {
        "source": config.source,
        "sha256": identity,
        "tokenizer": config.tokenizer,
        "transform": config.transform,
        "train": {"shards": sum(len(corpus.shards) for corpus in corpora)},
        "valid": _facts(valid, packed),
    }
    valid_blocks = replace(valid_blocks, transform=config.transform)
    return Data(tokenizer, TextStream(corpora, settings), valid_blocks, facts)


class _StreamOf(NamedTuple):
    identity: str
    corpus: Corpus


def _stream_splits(config: CorpusConfig, display: Display) -> tuple[list[_StreamOf], _Split]:
    """The streams, without what is held out of them, and the validation text."""
    fields = config.fields
    shares = open_shards(config.source, display.silent, fields=fields)
    streams, valid, n = list[_StreamOf](), _Split(), config.valid_documents
    for spec, shards, weight in ((s.spec, s.shards, s.weight) for s in shares):
        left = [(shard, 0) for shard in shards.train]
        if config.valid_source is None and shards.valid:
            valid.append(_Part(spec, weight, first_documents(shards.name, shards.valid, n)[0]))
        elif config.valid_source is None:
            documents, left = first_documents(shards.name, shards.train, n)
            valid.append(_Part(spec, weight, documents))
        first_rows = tuple(row for _, row in left)
        corpus = Corpus(shards.name, tuple(shard for shard, _ in left), first_rows, weight)
        if next(beginning(corpus), None) is None:
            raise UserError(
                f"{shards.name} has no document to train on after the first {n:,}, which are "
                "validation text; choose a smaller corpus.valid_documents, or give "
                "corpus.valid_source"
            )
        streams.append(_StreamOf(shards.identity, corpus))
    if config.valid_source is not None:
        valid = [
            _all_of(share) for share in _opened(config.valid_source, _VALID_FIELD, display, fields)
        ]
    return streams, valid


def _stream_identity(streams: list[_StreamOf], valid: _Split) -> str:
    of = [[stream.corpus.weight, stream.identity, stream.corpus.held_out] for stream in streams]
    return digest("stream", 1, of, [[part.weight, part.documents.identity] for part in valid])


def _first_letters(corpora: Sequence[Corpus]) -> Iterator[Document]:
    """What a ``bpe:N`` is trained on: the first texts of each corpus."""
    for corpus in corpora:
        left = _TRAINED_ON // len(corpora)
        for text in beginning(corpus):
            yield text
            left -= len(text)
            if left <= 0:
                break


# --- from splits to blocks --------------------------------------------------------------------


def _tokenizer(
    config: CorpusConfig, documents: Iterable[Document], identity: str, cache: Path
) -> Tokenizer:
    tokenizer = load_tokenizer(config.tokenizer, texts_of(documents), identity, cache)
    if config.messages_field is not None:
        check_chat_template(config.tokenizer, tokenizer.chat)
    return tokenizer


def _pack(
    display: Display,
    name: str,
    documents: Documents,
    tokenizer: Tokenizer,
    block_size: int,
    packing: str,
    cache: Path,
    fields: Fields = PLAIN,
    processes: int = 0,
    attend: str = "block",
) -> _Packed:
    """Blocks from the cache, or packed into it; warns of what they do not hold."""
    chat = tokenizer.chat if fields.messages is not None else None
    made_from = [documents.identity, tokenizer.fingerprint, block_size, packing]
    key = digest("blocks", 2, *made_from, *([] if chat is None else [chat.text]))
    with display.stage(f"packing {name}") as watch:
        folder = kept(
            cache,
            f"blocks/{key}",
            whole=lambda folder: read_facts(folder) is not None,
            make=lambda new: write_blocks(
                new, watch(documents), tokenizer, block_size, packing, processes
            ),
        )
    found = read_facts(folder)
    assert found is not None  # `kept` has just looked
    blocks = read_blocks(folder, found)
    if attend == "document":  # its separators, one after each, do not count
        n_tokens = found.tokens - found.documents
        blocks = replace(blocks, n_tokens=n_tokens, separator=tokenizer.separator_id)
    if (warning := blocks.coverage.warning(name)) is not None:
        display.line(f"warning: {warning}")
    if blocks.prompts is not None and len(blocks) < found.documents:
        left = f"{found.documents - len(blocks):,} of {counted(found.documents, 'record')}"
        why = f"have a prompt that leaves no room for an answer in {block_size:,} tokens"
        if not len(blocks):
            raise UserError(f"corpus.block_size {block_size}: {left} of {name} {why}")
        display.line(f"warning: {name}: {left} {why}, and are left out")
    return blocks, found


def _weighted(packed: list[_Packed], split: _Split) -> tuple[list[Blocks], list[int]]:
    return [blocks for blocks, _ in packed], [part.weight for part in split]


def _check_lengths(packed: dict[str, list[_Packed]], block_size: int) -> None:
    every = [(facts, name) for name, parts in packed.items() for _, facts in parts]
    shortest, name = min(every, key=lambda split: split[0].tokens)
    if not shortest.blocks:  # the shortest, so that what it allows is right for all
        raise UserError(
            f"corpus.block_size {block_size} is longer than the {name} split "
            f"({counted(shortest.tokens, 'token')}); at most {shortest.tokens}"
        )


def _warn_of_padding(blocks: Blocks, display: Display) -> None:
    if blocks.lengths is None:
        return
    padding = 1 - float(blocks.lengths.mean()) / blocks.block_size
    if padding > _MUCH:
        longest = int(blocks.lengths.max())
        display.line(
            f"warning: {padding:.0%} of the training blocks is padding; the longest document takes "
            f"{counted(longest, 'token')} of a corpus.block_size of {blocks.block_size:,}"
        )


def _facts(split: _Split, packed: list[_Packed]) -> dict[str, Any]:
    if len(split) == 1:
        return asdict(packed[0][1])
    parts = [
        {"source": spec, "weight": weight, "sha256": documents.identity, **asdict(facts)}
        for (spec, weight, documents), (_, facts) in zip(split, packed, strict=True)
    ]
    sums = {name: sum(part[name] for part in parts) for name in _COUNTS}
    return asdict(packed[0][1]) | sums | {"parts": parts}

"""Tokenizers: bytes, a byte-level BPE trained on the corpus, or any of Hugging Face's."""

import copy
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unmask.base.errors import UserError, shown
from unmask.base.files import sha256_of, write_whole
from unmask.base.hub import loading, locate
from unmask.base.numbers import whole_number
from unmask.data.cache import kept
from unmask.data.chat import ChatTemplate
from unmask.data.documents import digest

MASK_SHOWN = "░"
SEPARATOR_SHOWN = "\n¶\n"
_SEPARATOR, _MASK = "<|sep|>", "<|mask|>"
_SMALLEST_BPE = 256 + 2
_VALID = "bytes, bpe:N, or the name or folder of a Hugging Face tokenizer"
_KIND_FILE = "unmask.json"
_HUB_FILE = "tokenizer.json"
_SIGNS = (".", "\n", "a", "x")  # of kinds that tokenizers treat differently


class Tokenizer(Protocol):
    """Text to token ids and back.

    Attributes:
        vocab_size: all ids, special ones included.
        mask_id: the mask token.
        separator_id: stands after each document.
        never_predicted: ids that never occur in packed text.
        unknown_ids: ids that stand for text which the vocabulary has no token for.
        fingerprint: SHA-256 (hex); equal fingerprints encode equally.
        worth_processes: whether encoding takes longer than reading.
    """

    vocab_size: int
    mask_id: int
    separator_id: int
    never_predicted: tuple[int, ...]
    unknown_ids: tuple[int, ...]
    fingerprint: str
    worth_processes: bool

    @property
    def chat(self) -> ChatTemplate | None:
        """How it writes a conversation; None: it does not say."""

    def encode(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """Token ids of each text; the name of a special token inside a text is just text."""

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of a whole text, cut where its continuation begins.

        The cut is before the first token that holds a character of the continuation, or that is
        not among the context's own tokens: a token that spans the join belongs to the continuation.
        """

    def encode_inside(self, text: str) -> list[int]:
        """Token ids of a text that stands inside another, right after what is there.

        Some tokenizers put a space before every text; here they do not, where they allow it.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; a mask is shown as ░ and a separator as a line with ¶."""

    def save(self, folder: Path) -> None:
        """Write what `saved_tokenizer` reads."""


class ByteTokenizer:
    """UTF-8 bytes, a separator and a mask: 258 ids."""

    vocab_size = 258
    separator_id = 256
    mask_id = 257
    never_predicted: tuple[int, ...] = (257,)
    unknown_ids: tuple[int, ...] = ()
    fingerprint = digest("bytes", 1)
    worth_processes = False
    chat = None

    def encode(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """Bytes of each text."""
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in texts]

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Bytes of both: none spans the join."""
        return list(context.encode()), list(continuation.encode())

    def encode_inside(self, text: str) -> list[int]:
        """Bytes, which are the same everywhere."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Text; bytes that are no UTF-8 become U+FFFD."""
        shown = {self.separator_id: SEPARATOR_SHOWN.encode(), self.mask_id: MASK_SHOWN.encode()}
        return b"".join(shown.get(i) or bytes([i]) for i in ids).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Write a note of its kind."""
        write_whole(folder / _KIND_FILE, json.dumps({"kind": "bytes"}).encode())


class HubTokenizer:
    """A fast tokenizer of `transformers`, with a mask and a separator added where it has none.

    Attributes:
        had_mask: whether it came with a mask token.
        frame: ids of the special tokens that a model trained with it expects before and after a
            text (``[CLS]``, ``[SEP]``), or None where there is none.
    """

    worth_processes = True

    def __init__(self, fast: Any) -> None:
        self.had_mask = fast.mask_token is not None
        separator = fast.eos_token or fast.sep_token or fast.bos_token
        self._fast = fast
        self._backend = fast.backend_tokenizer
        if not self.had_mask or separator is None:
            _fill_holes(self._backend)
        if not self.had_mask:
            fast.add_special_tokens({"mask_token": _MASK})
        if separator is None:
            fast.add_special_tokens({"eos_token": _SEPARATOR})
            separator = _SEPARATOR
        self._backend.no_padding()
        self._backend.no_truncation()
        self._backend.encode_special_tokens = True  # "<|mask|>" in a text is not the mask
        self.mask_id: int = fast.mask_token_id
        self.frame: tuple[int | None, int | None] = (fast.cls_token_id, fast.sep_token_id)
        self.separator_id: int = fast.convert_tokens_to_ids(separator)
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        added = {i: token for i, token in fast.added_tokens_decoder.items() if token.special}
        unknown = {fast.unk_token, getattr(self._backend.model, "unk_token", None)}
        self.unknown_ids = tuple(sorted(vocabulary[n] for n in unknown if n in vocabulary))
        occurring = {self.separator_id, *self.unknown_ids}  # unknown tokens do stand for text
        reserved = {*fast.all_special_ids, *added, self.mask_id} - occurring
        _check_special(self, vocabulary, reserved | {self.separator_id})
        self.never_predicted = tuple(sorted(reserved))
        special = [self.mask_id, self.separator_id, *self.never_predicted]
        text = self._backend.to_str() + json.dumps(special)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._reserved = np.zeros(self.vocab_size, dtype=bool)
        self._reserved[[*reserved, self.separator_id]] = True
        names = [fast.convert_ids_to_tokens(i) for i in {*reserved, self.separator_id}]
        # its first letter, where the rest follows: cut there, and the name is no longer one word
        self._names = re.compile(
            "|".join(f"{re.escape(n[0])}(?={re.escape(n[1:])})" for n in names if len(n) > 1)
        )
        self._word = self._find_word(vocabulary)

    def encode(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """Token ids without any special tokens, by all cores."""
        encoded = self._encode(texts)
        for i, ids in enumerate(encoded):
            if self._reserved[ids].any():
                encoded[i] = self._encode_names(texts[i])
        return encoded

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode both together and cut them apart, by where each token of the whole text ends."""
        alone, ids = (found.tolist() for found in self.encode([context, context + continuation]))
        agree = [a == b for a, b in zip(alone, ids, strict=False)]
        first = [*agree, False].index(False) if context else 0
        whole = self._backend.encode(context + continuation, add_special_tokens=False)
        if whole.ids == ids:  # an unknown token can be the same and yet hide more
            while first and whole.offsets[first - 1][1] > len(context):
                first -= 1
        return ids[:first], ids[first:]

    def encode_inside(self, text: str) -> list[int]:
        """Encode after a sign that the text does not merge with, if it does not do alone."""
        plain: list[int] = self.encode([text])[0].tolist()
        if _margin(self._decode_inside(plain)) == _margin(text):
            return plain
        for sign in _SIGNS:
            before, both = (found.tolist() for found in self.encode([sign, sign + text]))
            ids: list[int] = both[len(before) :]
            apart = both[: len(before)] == before and not {*before} & {*self.unknown_ids}
            if apart and ids and _margin(self._decode_inside(ids)) == _margin(text):
                return ids
        return plain

    def _encode(self, texts: list[str]) -> list[NDArray[np.int64]]:
        try:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # the library has no kind of its own
            raise UserError(
                f"corpus.tokenizer: it cannot encode a text ({error}); choose another ({_VALID})"
            ) from error
        return [np.array(e.ids, dtype=np.int64) for e in encoded]

    def _encode_names(self, text: str) -> NDArray[np.int64]:
        """Encode a text with a special token's name, which the model takes for that token."""
        cuts = [0, *(match.end() for match in self._names.finditer(text)), len(text)]
        pieces = [text[a:b] for a, b in pairwise(cuts)]
        ids = np.concatenate(self._encode(pieces))
        if self._reserved[ids].any():
            name = self._backend.id_to_token(int(ids[self._reserved[ids]][0]))
            raise UserError(
                f"corpus.tokenizer: it turns text into its special token {name!r}, as in a "
                f"document that begins {text[:40]!r}; choose another (valid: {_VALID})"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text, in which only what comes first or after a separator is decoded as a beginning."""
        shown = {self.separator_id: SEPARATOR_SHOWN, self.mask_id: MASK_SHOWN}
        text, stretch, inside = "", list[int](), False
        for i in [*ids, None]:
            if i is not None and i not in shown:
                stretch.append(i)
                continue
            text += self._decode_inside(stretch) if inside else self._decode(stretch)
            text += shown[i] if i is not None else ""
            stretch, inside = [], i == self.mask_id
        return text

    def _decode(self, ids: list[int]) -> str:
        text: str = self._backend.decode(ids, skip_special_tokens=False) if ids else ""
        return text

    def _decode_inside(self, ids: list[int]) -> str:
        """Text of ids with other text before them: many decoders drop a beginning's first space."""
        return self._decode([*self._word, *ids])[len(self._decode(self._word)) :]

    def _find_word(self, vocabulary: dict[str, int]) -> list[int]:
        """A token that is a plain word by itself (a byte token can change what follows)."""
        for name, i in sorted(vocabulary.items(), key=lambda entry: entry[1]):
            text = "" if name.startswith("<") else self._decode([i])
            if text.isascii() and text.isalpha():
                return [i]
        return []

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """Its chat template."""
        return ChatTemplate(self.of_transformers()) if self._fast.chat_template else None

    def save(self, folder: Path) -> None:
        """Write it as `transformers` does."""
        folder.mkdir(parents=True, exist_ok=True)
        self._fast.save_pretrained(str(folder))
        note = {"kind": "hub", "sha256": sha256_of(folder / _HUB_FILE)}
        write_whole(folder / _KIND_FILE, json.dumps(note).encode())

    def of_transformers(self) -> Any:
        """A copy as `transformers` has it, which reads special tokens' names as those tokens."""
        fast = copy.deepcopy(self._fast)
        fast.backend_tokenizer.encode_special_tokens = False
        return fast


def text_after(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
    """What ids add to the text of those before them, its first space included."""
    head, whole = tokenizer.decode(before), tokenizer.decode([*before, *ids])
    return whole[len(head) :] if whole.startswith(head) else tokenizer.decode(ids)


def _fill_holes(backend: Any) -> None:
    """Name the ids that a vocabulary leaves out: else an added token is given a word's id."""
    description = json.loads(backend.to_str())
    vocabulary = description["model"].get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:  # a list has no holes
        return
    taken = backend.get_vocab(with_added_tokens=True).values()
    holes = set(range(max(taken))) - {*taken}
    if holes:
        vocabulary |= {f"<|hole {i}|>": i for i in holes}
        backend.model = type(backend).from_str(json.dumps(description)).model


def _check_special(tokenizer: HubTokenizer, vocabulary: dict[str, int], special: set[int]) -> None:
    """Raise a `UserError` if the ids of special tokens have a second meaning."""
    named = defaultdict[int, list[str]](list)
    for name, i in vocabulary.items():
        named[i].append(name)
    mask, other = tokenizer.mask_id, None
    if mask == tokenizer.separator_id:
        other = "also the one that ends a document"
    elif mask in tokenizer.unknown_ids:
        other = "also the one for unknown text"
    if other is not None:
        raise UserError(
            f"corpus.tokenizer: its mask token {named[mask][0]!r} is {other}; the mask must be a "
            f"token of its own ({_VALID})"
        )
    for i in sorted(special):
        if len(named[i]) > 1:
            names = " and ".join(map(repr, sorted(named[i])))
            raise UserError(f"corpus.tokenizer: its tokens {names} share the id {i} ({_VALID})")


def _margin(text: str) -> str:
    """The space that a text begins with."""
    return text[: len(text) - len(text.lstrip())]


def load_tokenizer(spec: str, train: Iterable[str], identity: str, cache: Path) -> Tokenizer:
    """Make the tokenizer that ``corpus.tokenizer`` names.

    Args:
        spec: ``bytes``, ``bpe:N``, or the name or folder of a Hugging Face tokenizer.
        train: the documents a ``bpe:N`` is trained on.
        identity: SHA-256 of what those documents are.
        cache: where it is kept.

    Raises:
        UserError: no such tokenizer, or N is out of range for this text.
    """
    if spec == "bytes":
        return ByteTokenizer()
    if spec.startswith("bpe:"):
        size = whole_number(spec.removeprefix("bpe:"))
        if size is None or size < _SMALLEST_BPE:
            raise UserError(
                f"corpus.tokenizer {shown(spec)}: N must be a whole number of at least "
                f"{_SMALLEST_BPE} (the bytes, the separator and the mask)"
            )
        folder = kept(
            cache,
            f"tokenizers/{digest('bpe', 1, identity, size)}",
            whole=lambda folder: _saved_kind(folder) is not None,
            make=lambda folder: HubTokenizer(_train_bpe(size, train)).save(folder),
        )
        spec = str(folder)
    return hub_tokenizer(spec)


def vocabulary_size(spec: str) -> int:
    """How many entries the tokenizer that ``corpus.tokenizer`` names has, without a text.

    Raises:
        UserError: no such tokenizer, or one of the hub that cannot be had.
    """
    if spec == "bytes":
        return ByteTokenizer.vocab_size
    if spec.startswith("bpe:") and (size := whole_number(spec.removeprefix("bpe:"))) is not None:
        return size
    return hub_tokenizer(spec).vocab_size


def is_ours(spec: str) -> bool:
    """Whether ``corpus.tokenizer`` names one that is made here, and so has no chat template."""
    return spec == "bytes" or spec.startswith("bpe:")


def hub_tokenizer(name: str) -> HubTokenizer:
    """Load a Hugging Face tokenizer by its name on the hub or its folder.

    Raises:
        UserError: it cannot be loaded, or is not a fast one.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    place, gguf = locate(name, "corpus.tokenizer", _VALID)
    own = ("bytes", f"bpe:{name.partition(':')[2] or 'N'}")
    with loading(place, "corpus.tokenizer", _VALID, own):
        fast = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, **({"gguf_file": gguf} if gguf else {})
        )
    if not fast.is_fast:
        raise UserError(f"corpus.tokenizer {name!r} has no fast version; valid: {_VALID}")
    return HubTokenizer(fast)


def saved_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer that a run saved.

    Raises:
        UserError: it is missing or unreadable.
    """
    kind = _saved_kind(folder)
    if kind is None:
        raise UserError(f"{folder} holds no saved tokenizer, or not all of it")
    return ByteTokenizer() if kind == "bytes" else hub_tokenizer(str(folder))


def _saved_kind(folder: Path) -> str | None:
    """``bytes`` or ``hub``; None if what `save` wrote is not there as it was written."""
    try:
        note = json.loads((folder / _KIND_FILE).read_text())
        if note["kind"] == "bytes":
            return "bytes"
        return "hub" if note["sha256"] == sha256_of(folder / _HUB_FILE) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _train_bpe(size: int, texts: Iterable[str]) -> Any:
    """Train a byte-level BPE with ``size`` entries in all; it loses nothing of a text."""
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415
    from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_SEPARATOR, _MASK],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() < size:
        raise UserError(
            f"corpus.tokenizer bpe:{size}: the training text gives at most "
            f"{backend.get_vocab_size()} entries; choose N between {_SMALLEST_BPE} and that"
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token=_SEPARATOR,
        mask_token=_MASK,
        clean_up_tokenization_spaces=False,
    )

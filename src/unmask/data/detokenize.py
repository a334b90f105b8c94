"""Published corpora that come as tokens with spaces between, made into running text again.

Models are trained on text as people write it; WikiText's ``guest @-@ starring , he said`` would
count against them for its spelling. Zero-shot perplexities have been reported on detokenised text
since GPT-2, and these functions undo what its successors' undo:

- ``wikitext``: `` @-@ ``, `` @,@ ``, `` @.@ ``, `` 's ``, spaces before punctuation, inside
  brackets and quotation marks, and in headings (``= = Early life = =``).
- ``ptb``: `` 's ``, `` n't ``, ``s ' ``, ``\\/``; ``N`` becomes 1 and ``<unk>`` a question mark.
- ``lm1b``: spaces before punctuation, inside brackets and quotes, after ``$`` and in URLs.
- ``lambada``: typographic quotes become plain ones; a line's end stands before the text.
- ``papers`` (PubMed, arXiv): ``wikitext``, then ``lm1b``.

A text is always detokenised before it is encoded, bits per byte are those of the text that the
model saw, and words are counted in the text as it was published.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from unmask.base.errors import unknown
from unmask.data.documents import Documents, digest, texts_of

_Rules = tuple[tuple[str, str], ...]

_WIKITEXT: _Rules = (
    (r" @([-,.])@ ", r"\1"),
    (r"(?<=s) '(?= )", "'"),
    (r" '(?=(?:s|t|d|m|re|ve|ll)\b)", "'"),
    (r" ([,.;:!?])(?=\s|$)", r"\1"),
    (r"([(\[{]) +", r"\1"),
    (r" +(?=[)\]}])", ""),
    (r'" ([^"]*?) "', r'"\1"'),
    (r"(?<==) (?==)", ""),
    (r" ° ", "°"),
    (r" *\n *", "\n"),
)
_PTB: _Rules = (
    (r" (?='s|n't)", ""),
    (r"(?<=s) '(?= )", "'"),
    (r" *\n *", "\n"),
    (r"\\/", "/"),
    (r"\bN\b", "1"),
    (r"(?<=[$#]) (?=1)", ""),
    (r"<unk>", "?"),
)
_LM1B: _Rules = (
    (r"\b(https?) : / / ", r"\1://"),
    (r" '(?=\w)", "'"),
    (r" ([.?!,:;])(?= |$)", r"\1"),
    (r" / ", "/"),
    (r'" ([^"]+) "', r'"\1"'),
    (r"' ([^']+) '", r"'\1'"),
    (r"\( ([^()]+) \)", r"(\1)"),
    (r"\[ ([^\[\]]+) \]", r"[\1]"),
    (r"(?<=[$£]) ", ""),
)


def _apply(rules: _Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def _lambada(text: str) -> str:
    return "\n" + text.translate(str.maketrans("“”‘’", "\"\"''")).strip()


DETOKENIZERS: dict[str, Callable[[str], str]] = {
    "wikitext": partial(_apply, _WIKITEXT),
    "ptb": partial(_apply, _PTB),
    "lm1b": partial(_apply, _LM1B),
    "lambada": _lambada,
    "papers": partial(_apply, _WIKITEXT + _LM1B),
}
"""Text of one document as published -> running text, by name."""

_FILES = re.compile(r"(wikitext|ptb|lm1b|lambada)(2|103)?([-_. ].*)?", re.IGNORECASE | re.DOTALL)
"""A file named after a known corpus, as a word of its own: no ``ptbooks.txt``."""
_NAMED = {"pubmed": "papers", "arxiv": "papers"}


def choose_detokenizer(name: str, source: str) -> str:
    """The name of the detokeniser to use, or ``none``.

    Args:
        name: one of `DETOKENIZERS`, ``none``, or ``auto``: by the source's name.
        source: a corpus, as `unmask.data.sources.open_source` takes it; ``wikitext-2`` and files
            ``wikitext2-test.txt`` and ``WikiText.jsonl.gz`` are WikiText's, ``ptbooks.txt`` is
            nobody's.

    Raises:
        UserError: no such name.
    """
    if name not in ("auto", "none", *DETOKENIZERS):
        raise unknown("detokenize", name, ("auto", "none", *DETOKENIZERS))
    if name != "auto":
        return name
    called = source.partition(":")[0]
    if called in _NAMED:
        return _NAMED[called]
    own = _FILES.fullmatch(Path(called).name)
    return own[1].lower() if own else "none"


def detokenized(documents: Documents, name: str) -> Documents:
    """The documents, each passed through a detokeniser (``none``: as they are)."""
    if name == "none":
        return documents
    rule = DETOKENIZERS[name]
    return Documents(
        name=documents.name,
        identity=digest(documents.identity, "detokenize", 1, name),
        read=lambda: map(rule, texts_of(documents)),
        read_part=documents.read_part,
    )

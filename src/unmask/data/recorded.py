"""What a run records of its corpus, and whether a corpus is still that one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.base.errors import UserError
from unmask.base.files import parse_json, read_utf8
from unmask.data.tokenizers import Tokenizer, saved_tokenizer

RECORD = "corpus.json"


def recorded_facts(run: Path) -> dict[str, Any]:
    """The facts in a run's folder, as `unmask.data.load.Data` has them.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    path = run / RECORD
    facts = parse_json(read_utf8(path), str(path))
    if isinstance(facts, dict) and isinstance(facts.get("sha256"), str):
        return facts
    raise UserError(f"{path} is damaged: it does not say what the run was trained on")


def check_same_corpus(run: Path, facts: Mapping[str, Any]) -> None:
    """Compare a corpus with the one that a run was trained on.

    Args:
        run: the run's folder.
        facts: ``source`` and ``sha256`` of the corpus, as `unmask.data.load.Data` has them.

    Raises:
        UserError: it is another, or the run does not say which it was trained on.
    """
    then, now = recorded_facts(run)["sha256"], facts["sha256"]
    if then != now:
        raise UserError(
            f"the corpus {facts['source']} is no longer what the run {run} was trained on "
            f"(SHA-256 {then[:12]} then, {now[:12]} now)"
        )


def check_same_tokenizer(run: Path, tokenizer: Tokenizer, *, conversations: bool = False) -> None:
    """Compare a tokenizer with the one that a run saved: under its name another may stand now.

    Args:
        run: the run's folder.
        conversations: whether its chat template counts too.

    Raises:
        UserError: it is another.
    """
    saved = saved_tokenizer(run / "tokenizer")
    parts = {"tokenizer": (saved.fingerprint, tokenizer.fingerprint)}
    if conversations:
        parts["chat template"] = _template(saved), _template(tokenizer)
    for part, (then, now) in parts.items():
        if then != now:
            raise UserError(
                f"cannot resume {run}: the corpus's {part} is no longer what it was trained with"
            )


def _template(tokenizer: Tokenizer) -> str:
    return "" if tokenizer.chat is None else tokenizer.chat.text

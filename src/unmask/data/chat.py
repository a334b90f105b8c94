"""A tokenizer's chat template: how it writes a conversation, and what of that is an answer."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from unmask.base.errors import UserError, shown
from unmask.data.documents import Message

_SANITIZE = "sanitize_control_tokens"
_MARK = "\N{SYMBOL FOR RECORD SEPARATOR}"  # in the place of an answer
_BEGINNING = 40  # letters that a message repeats


class ChatTemplate:
    """The chat template of a fast tokenizer of `transformers`.

    Attributes:
        text: the template, or a repr of those that have names.

    Args:
        fast: the tokenizer, which reads special tokens' names as those tokens.

    Raises:
        UserError: this version of `transformers` takes a special token's name in a message for
            that token.
    """

    def __init__(self, fast: Any) -> None:
        if _SANITIZE not in signature(fast.apply_chat_template).parameters:
            raise UserError(
                "corpus.messages_field needs a newer version of transformers (5.24 will do): this "
                "one takes a special token's name in a message for that token"
            )
        self._fast = fast
        self.text = (
            fast.chat_template if isinstance(fast.chat_template, str) else repr(fast.chat_template)
        )
        self._special = [token for token in fast.all_special_tokens if token]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of messages, up to where the assistant's answer begins.

        Raises:
            UserError: the template refuses them.
        """
        how = {_SANITIZE: True, "return_dict": False}
        ids: list[int] = self._apply(messages, add_generation_prompt=True, tokenize=True, **how)
        return ids

    def answer(self, messages: Sequence[Message], answer: str) -> str:
        """What the template makes of an answer, up to the answer's end.

        That is the answer, after whatever the template always puts before one (an empty thought,
        say). What it puts after one is left out: the separator ends an answer.

        Raises:
            UserError: the template does not write an answer right after the prompt, or puts a
                special token before it.
        """
        before: str = self._apply(messages, add_generation_prompt=True, tokenize=False)
        written, marked = (
            self._apply([*messages, Message("assistant", said)], tokenize=False)
            for said in (answer, _MARK)
        )
        head, _, tail = marked.removeprefix(before).rpartition(_MARK)
        if not (written.startswith(before) and marked.startswith(before) and _MARK in marked):
            raise UserError(
                "the chat template of corpus.tokenizer does not write an answer right after its "
                f"prompt, as in the answer that begins {shown(answer[:_BEGINNING])}"
            )
        special = next((token for token in self._special if token in head), None)
        if special is not None:
            raise UserError(
                f"the chat template of corpus.tokenizer puts its special token {special!r} between "
                "the prompt and the answer, where nothing but text can be predicted"
            )
        return str(written.removeprefix(before).removesuffix(tail))

    def _apply(self, messages: Sequence[Message], **how: Any) -> Any:
        rows = [message._asdict() for message in messages]
        try:
            return self._fast.apply_chat_template(rows, **how)
        except Exception as error:  # whatever a template raises
            begins = (
                f", as in the one that begins {shown(rows[0]['content'][:_BEGINNING])}"
                if rows
                else ""
            )
            raise UserError(
                f"the chat template of corpus.tokenizer refuses a conversation{begins}: {error}"
            ) from error


def check_chat_template(name: str, chat: ChatTemplate | None) -> ChatTemplate:
    """The chat template of the tokenizer of that name.

    Raises:
        UserError: it has none.
    """
    if chat is None:
        raise UserError(
            f"corpus.messages_field: the tokenizer {shown(name)} has no chat template; valid: the "
            "name or folder of one that has, or corpus.prompt_field for records of a prompt and an "
            "answer"
        )
    return chat

"""Records: rows of named fields, and which of them make a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.base.errors import UserError
from unmask.base.wording import listed
from unmask.data.documents import Document, Message, Prompted

_FIELDS_NAMED = 12
_ANSWERS = "assistant"


@dataclass(frozen=True)
class Fields:
    """Which fields of a record are read.

    Attributes:
        text: where the text is, or the answer to a prompt.
        prompt: where the prompt is; None: texts have none.
        messages: where a conversation is, which stands for both: what its assistant says last is
            the answer, and all before it the prompt.
    """

    text: str = "text"
    prompt: str | None = None
    messages: str | None = None

    @property
    def prompted(self) -> bool:
        """Whether documents have prompts."""
        return self.prompt is not None or self.messages is not None

    @property
    def key(self) -> list[list[str | None]]:
        """What a hash of the texts takes in; nothing without prompts, as before there were any."""
        return [["prompted", self.prompt, self.messages]] if self.prompted else []

    @property
    def names(self) -> list[str]:
        """Those that are read."""
        if self.messages is not None:
            return [self.messages]
        return [self.text] if self.prompt is None else [self.prompt, self.text]

    def columns(self, columns: Sequence[str], where: str) -> list[str]:
        """The columns that hold them, each once.

        Raises:
            UserError: there is none for one of them.
        """
        return [*dict.fromkeys(column_of(name, columns, where) for name in self.names)]

    def document(self, row: Mapping[str, Any], where: str) -> Document:
        """The document that a record is.

        Args:
            row: the record.
            where: the file and row, for messages.

        Raises:
            UserError: a field is not there, or not what it should be.
        """
        if self.messages is not None:
            return _conversation(value_at(row, self.messages, where), self.messages, where)
        if self.prompt is not None:
            return Prompted(text_at(row, self.prompt, where), text_at(row, self.text, where))
        return text_at(row, self.text, where)


PLAIN = Fields()
"""A text in the field ``text``, without a prompt."""


def text_at(row: Mapping[str, Any], field: str, where: str) -> str:
    """A record's text.

    Raises:
        UserError: there is no such field, or it is not text that UTF-8 can hold.
    """
    return _checked(value_at(row, field, where), f"{where}: field {field!r}")


def value_at(row: Mapping[str, Any], field: str, where: str) -> Any:
    """What a field of a record holds.

    Args:
        row: the record.
        field: its field; without one of that name ``a.b`` is the field ``b`` of the field ``a``.
        where: the file and row, for messages.

    Raises:
        UserError: there is no such field.
    """
    value: Any = row
    inside = ""
    for name in [field] if field in row else field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            names = value if isinstance(value, Mapping) else ()
            raise missing_field(field, [f"{inside}{name}" for name in names], where)
        value, inside = value[name], f"{inside}{name}."
    return value


def _checked(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what} is not text but {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} has half a surrogate pair, no text") from None
    return value


def _conversation(value: Any, field: str, where: str) -> Prompted:
    """What comes before the last message of the assistant, and that message."""
    what = f"{where}: field {field!r}"
    if not isinstance(value, list):
        raise UserError(f"{what} is not a list of messages but {type(value).__name__}")
    messages = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise UserError(f"{what}: message {number} is no object with a role and a content")
        role, content = (
            _checked(message[name], f"{what}: the {name} of message {number}")
            for name in ("role", "content")
        )
        messages.append(Message(role, content))
    while messages and messages[-1].role != _ANSWERS:
        messages.pop()  # what nobody answers
    if not messages:
        raise UserError(f"{what} holds no message with the role {_ANSWERS!r}")
    return Prompted(tuple(messages[:-1]), messages[-1].content)


def column_of(field: str, columns: Sequence[str], where: str) -> str:
    """The column that holds a field: of its name, or for ``a.b`` the one of the name ``a``.

    Raises:
        UserError: there is none.
    """
    for name in (field, field.partition(".")[0]):
        if name in columns:
            return name
    raise missing_field(field, columns, where)


def missing_field(field: str, fields: Sequence[str], where: str) -> UserError:
    """Build the error for a row that lacks ``field``."""
    names = listed(fields, _FIELDS_NAMED) or "none"
    return UserError(f"{where} has no field {field!r}; its fields: {names} (choose with field=...)")

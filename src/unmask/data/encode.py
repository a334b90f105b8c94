"""Texts to tokens, by worker processes where the text is long enough; in the texts' order."""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.base.errors import UserError
from unmask.data.coverage import CharacterCount, count_of
from unmask.data.documents import Document, Prompted
from unmask.data.tokenizers import Tokenizer

# Documents encoded in one call: enough to be worth a message to a process, few enough to hold.
_DOCUMENTS_AT_A_TIME = 1000
_LETTERS_AT_A_TIME = 2**20
_WORTH_PROCESSES = 8  # groups: shorter texts are done before the processes have started
_AHEAD = 2  # groups that wait for each process
_TOKENIZERS_THREADS = "TOKENIZERS_PARALLELISM"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # to a run, whose workers leave them


@dataclass(frozen=True)
class Encoded:
    """Documents encoded together.

    Attributes:
        tokens: of all of them, one after another, in `token_type`.
        lengths: (n,) how many tokens each document has.
        prompts: (n,) how many of them, at its beginning, are its prompt; None: no document has one.
        n_bytes: UTF-8 bytes of the texts, prompts aside.
        n_unknown: tokens that stand for text which the vocabulary lacks, prompts aside.
        characters: how often each character occurs, prompts aside.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]
    prompts: NDArray[np.int64] | None
    n_bytes: int
    n_unknown: int
    characters: CharacterCount

    def documents(self) -> Iterator[NDArray[Any]]:
        """The tokens of each document."""
        yield from np.split(self.tokens, self.lengths.cumsum()[:-1])

    @property
    def n_tokens(self) -> int:
        """Tokens of the documents with a separator after each, prompts aside."""
        prompts = 0 if self.prompts is None else int(self.prompts.sum())
        return len(self.tokens) + len(self.lengths) - prompts


def token_type(tokenizer: Tokenizer) -> np.dtype[Any]:
    """The smallest kind of number that holds every id."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)


def encoded(
    documents: Iterable[Document], tokenizer: Tokenizer, processes: int
) -> Iterator[Encoded]:
    """Encode documents a group at a time; how many processes do it changes no group.

    Args:
        processes: at most so many; 0: one for each core. Bytes, which are read more slowly than
            encoded, and short texts are encoded in this process.

    Raises:
        UserError: the tokenizer cannot encode a text, or a process was killed.
    """
    groups = grouped(documents)
    processes = processes or cores()
    first: list[list[Document]] = []
    if processes > 1 and tokenizer.worth_processes:
        first = list(islice(groups, _WORTH_PROCESSES))
    if len(first) < _WORTH_PROCESSES:
        for group in chain(first, groups):
            yield encode(group, tokenizer)
        return
    waiting = deque[Future[Encoded]]()
    with _pool(tokenizer, processes) as pool:
        for group in chain(first, groups):
            waiting.append(pool.submit(_encode_here, group))
            if len(waiting) > _AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def encode(documents: list[Document], tokenizer: Tokenizer) -> Encoded:
    """Encode some documents."""
    found, prompts = ids_of(documents, tokenizer)
    texts = [d if isinstance(d, str) else d.answer for d in documents]
    tokens = np.concatenate(found).astype(token_type(tokenizer))
    prompted = any(isinstance(document, Prompted) for document in documents)
    counted = tokens
    if prompted:
        counted = np.concatenate([ids[n:] for ids, n in zip(found, prompts, strict=True)])
    characters = CharacterCount()
    characters.add(texts)
    return Encoded(
        tokens=tokens,
        lengths=np.array([len(ids) for ids in found], dtype=np.int64),
        prompts=np.array(prompts) if prompted else None,
        n_bytes=sum(len(text.encode()) for text in texts),
        n_unknown=count_of(tokenizer.unknown_ids, counted),
        characters=characters,
    )


def ids_of(
    documents: list[Document], tokenizer: Tokenizer
) -> tuple[list[NDArray[np.int64]], list[int]]:
    """The tokens of each document, and how many of them, at its beginning, are its prompt.

    Raises:
        UserError: the tokenizer cannot encode one.
    """
    texts = [document for document in documents if isinstance(document, str)]
    plain = iter(tokenizer.encode(texts))
    found, prompts = [], []
    for document in documents:
        if isinstance(document, str):
            found.append(next(plain))
            prompts.append(0)
        else:
            prompt, answer = encode_prompted(document, tokenizer)
            found.append(np.array(prompt + answer, dtype=np.int64))
            prompts.append(len(prompt))
    return found, prompts


def encode_prompted(document: Prompted, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of its answer.

    The prompt is encoded by itself, as it is where an answer is asked for; the answer as a text
    that stands right after it. A conversation is written by the tokenizer's chat template.

    Raises:
        UserError: the tokenizer cannot encode them.
    """
    answer = document.answer
    if isinstance(document.prompt, str):
        prompt: list[int] = tokenizer.encode([document.prompt])[0].tolist()
    else:
        chat = tokenizer.chat
        assert chat is not None  # as `unmask.data.load` makes sure
        prompt = chat.prompt_ids(document.prompt)
        answer = chat.answer(document.prompt, answer)
    if not prompt:
        return [], tokenizer.encode([answer])[0].tolist()
    return prompt, tokenizer.encode_inside(answer)


def grouped(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of documents to encode together."""
    group: list[Document] = []
    letters = 0
    for text in documents:
        group.append(text)
        letters += len(text)
        if len(group) == _DOCUMENTS_AT_A_TIME or letters >= _LETTERS_AT_A_TIME:
            yield group
            group, letters = [], 0
    if group:
        yield group


# --- processes --------------------------------------------------------------------------------


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def forking() -> BaseContext:
    """How worker processes start: where it is safe as copies, which need no import again."""
    return get_context("fork" if sys.platform == "linux" else "spawn")


@contextmanager
def starting_workers() -> Iterator[None]:
    """Processes that start in this block encode with one thread each, as there is one for a core.

    Threads of the tokenizers' library would also not survive the start. Signals to all processes
    wait until the block ends, and do not end one that is about to call `begin_worker`.
    """
    before = os.environ.get(_TOKENIZERS_THREADS)
    os.environ[_TOKENIZERS_THREADS] = "false"
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if before is None:
            del os.environ[_TOKENIZERS_THREADS]
        else:
            os.environ[_TOKENIZERS_THREADS] = before


@contextmanager
def _pool(tokenizer: Tokenizer, processes: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(processes, forking(), initializer=_begin, initargs=(tokenizer,))
    try:
        with starting_workers():
            pool.submit(os.getpid).result()  # with the first task all of them start
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a process that encodes the corpus was killed, most often because memory ran out; "
            f"set corpus.processes below {processes}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_TOKENIZER: list[Tokenizer] = []  # of a worker process


def _begin(tokenizer: Tokenizer) -> None:
    begin_worker()
    _TOKENIZER[:] = [tokenizer]


def begin_worker() -> None:
    """Make this process one that lives for its parent: it leaves signals to it and ends with it."""
    os.environ[_TOKENIZERS_THREADS] = "false"
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed; it may be waiting for it for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _encode_here(documents: list[Document]) -> Encoded:
    return encode(documents, _TOKENIZER[0])

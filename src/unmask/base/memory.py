"""Whether this machine has room for what is asked for."""

import os

from unmask.base.errors import UserError


def check_memory(what: str, size: int) -> None:
    """Refuse what cannot fit, before it is made.

    Args:
        what: the arithmetic, for the error: ``batch 3 x length 4 are 12 ids of 8 bytes``.
        size: bytes.

    Raises:
        UserError: they are more than all memory of this machine.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise UserError(f"{what}; this machine has {memory / 1e9:.0f} GB of memory")

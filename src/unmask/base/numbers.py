"""Numbers as text and their ranges: one rule for YAML, specs, options and file names."""

import math
import re

from unmask.base.errors import UserError, shown

LARGEST_COUNT = 2**32 - 1
"""Of steps, samples and what else the counters of `unmask.diffusion.noise` number."""

LARGEST_SEED = 2**63 - 1
"""Of seeds, which are int64."""

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,999})", re.ASCII)
_DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)


def whole_number(text: str) -> int | None:
    """The integer written in plain decimal digits (``-12``; not ``010``, ``1_000`` or ``²``)."""
    return int(text) if _WHOLE.fullmatch(text) else None


def decimal_number(text: str) -> float | None:
    """The finite number written as a decimal, with or without exponent (``1e-3``; not ``nan``)."""
    value = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def check_seed(seed: int, field: str = "seed") -> None:
    """Refuse a seed that int64 does not hold, rather than take it modulo something.

    Raises:
        UserError: it is below -2^63 or above 2^63 - 1.
    """
    if not -LARGEST_SEED - 1 <= seed <= LARGEST_SEED:
        raise UserError(f"{field} must be at most {LARGEST_SEED} (2^63 - 1), not {shown(seed)}")

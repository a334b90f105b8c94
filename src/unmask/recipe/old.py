"""How recipes were written before they were compositions, and how that is written now."""

from unmask.base.errors import UserError
from unmask.base.spec import format_spec

_NAMES = {
    "bell-pairs": "narrow-pairs",
    "bell-spans": "narrow-spans",
    "bell-scattered": "narrow-scattered",
    "bell-puma": "narrow-puma",
    "bell-anneal": "narrow-anneal",
    "bell-after-ar": "narrow-after-ar",
}
_NEIGHBOURS = {"scattered": "-0.7", "spans": "0.7", "alternating": "-0.9"}
_CAUSAL = ("next-token", "shifted-next-token")
_EVERY_KEY = {
    *("time", "weight", "masking", "stratified", "paired", "ar_warmup", "anneal", "fit"),
}


def in_new_words(name: str, options: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A recipe's name and options as they are spelled today.

    A recipe that was written out in full, as configurations hold it, is translated.

    Raises:
        UserError: an old name or key that somebody wrote; the new spelling is given.
    """
    new_name, new = _translated(name, dict(options))
    if set(options) >= _EVERY_KEY or (new_name, new) == (name, options):
        return new_name, new
    raise UserError(
        f"recipe {format_spec(name, options)!r} is now spelled {format_spec(new_name, new)!r}"
    )


def _translated(name: str, options: dict[str, str]) -> tuple[str, dict[str, str]]:
    masking = options.get("masking")
    if masking in _CAUSAL or options.get("time") == "full":
        return "ar", {}
    written_out = set(options) >= _EVERY_KEY
    new = {key: value for key, value in options.items() if key not in ("ar_warmup", "anneal")}
    if masking == "alternating" or (written_out and masking in _NEIGHBOURS):
        new["masking"] = "scattered" if masking == "alternating" else masking
        new["neighbours"] = _NEIGHBOURS[masking]
    warm_up = _number(options.get("ar_warmup", "0"))
    if "ar_warmup" in options:
        new["next-token"] = f"1@{warm_up}/0@{warm_up}" if warm_up else "0"
    if "anneal" in options:
        new["uniform"] = _anneal(_number(options["anneal"]), warm_up)
    return _NAMES.get(name, name), new


def _anneal(share: float, warm_up: float) -> str:
    """Over that share of the steps, at the end, to uniform rates; never during the warm-up."""
    start = round(1 - share, 12)
    if not share:
        return "0"
    if start >= warm_up:
        return f"0@{start}/1@1"
    return f"0@{warm_up}/{round((warm_up - start) / share, 12)}@{warm_up}/1@1"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"a share of the steps must be a number, not {text!r}") from None

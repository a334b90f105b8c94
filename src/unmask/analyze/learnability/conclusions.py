"""The two lines that a study ends with, from its record."""

from typing import Any

from unmask.analyze.learnability.reducible import heaviest_range


def learnability_conclusion(record: dict[str, Any]) -> list[str]:
    """What is left to learn and where; where the gradient is clear and which rates teach most."""
    curves = record["curves"]
    recipe = max(curves["recipes"], key=lambda r: r["reducible_area"][-1])
    return [_left(recipe, curves), _teachers(record, recipe["name"])]


def _left(recipe: dict[str, Any], curves: dict[str, Any]) -> str:
    n = len(curves["lowest"])
    parts = recipe["reducible_share"][-1]
    head = f"{recipe['name']} at step {recipe['steps'][-1]:,} has {recipe['nelbo'][-1]:.3f} nats"
    head += f" per token, of which at least {recipe['learnable'][-1]:.3f} are learnable"
    twins = [t for t in curves["causal"] if t["nelbo"] < curves["lowest_area"]]
    if twins:
        twin = min(twins, key=lambda t: float(t["nelbo"]))
        head += f" ({twin['name']} has {twin['nelbo']:.3f})"
    if parts is None:
        return f"{head}; no recipe that masks was lower at any mask rate."
    first, last = heaviest_range(parts, 0.5)
    return (
        f"{head}; of the {recipe['reducible_area'][-1]:.3f} above the lowest c(t) measured, "
        f"{sum(parts[first : last + 1]):.0%} sit at t in [{first / n:g}, {(last + 1) / n:g}]."
    )


def _teachers(record: dict[str, Any], preferred: str) -> str:
    """From the last checkpoint of the preferred recipe, or of any that was looked at."""
    names = [t["recipe"] for t in record["transfer"]]
    name = preferred if preferred in names else names[-1]
    transfer = [t for t in record["transfer"] if t["recipe"] == name][-1]
    gradient = [g for g in record["gradients"] if g["recipe"] == name][-1]
    signal = gradient["weights"]["flat"]["all"]
    pairs = zip(signal["snr"], signal["snr_stderr"], strict=True)
    # The lower end of each, so that no bin is named for its noise.
    ends = {bin: a - b for bin, (a, b) in enumerate(pairs) if a is not None and b is not None}
    clear = ""
    if ends:
        best = max(ends, key=lambda bin: float(ends[bin]))
        clear = (
            f"the gradient is clearest at t in {_range(gradient['bins'][best])} (signal-to-noise "
            f"{signal['snr'][best]:.3f} ± {signal['snr_stderr'][best]:.3f}); "
        )
    *rows, uniform = transfer["nelbo_change"]
    *errors, uniform_error = transfer["nelbo_change_stderr"]
    row = min(range(len(rows)), key=lambda i: float(rows[i]))
    return (
        f"At step {transfer['step']:,} of {name} {clear}{record['budget']['steps']} steps teach "
        f"most at t in {_range(transfer['rows'][row])}: NELBO {rows[row]:+.4f} ± "
        f"{errors[row]:.4f}, against {uniform:+.4f} ± {uniform_error:.4f} with t uniform."
    )


def _range(edges: list[float]) -> str:
    low, high = edges
    return f"[{low:.3g}, {high:.3g}]"


def interventions_conclusion(record: dict[str, Any]) -> list[str]:
    """What becomes of the gap to the twin, and of the other recipes' gain."""
    first, second = record["transforms"]
    base = record["settings"][0]["recipes"][0]["name"]
    twin = next(e for e in record["effects"] if e["causal"])
    gap = twin["difference"]
    line = (
        f"{twin['recipe']} against {base}, last bounds: {_signed(gap['with'])} nats per token with "
        f"transform {first}, {_signed(gap['without'])} with {second}; the gap "
        f"{_verdict(gap['with'], gap['without'], gap['change'])}."
    )
    lines = [line]
    others = [e for e in record["effects"] if not e["causal"]]
    if others:
        gain = others[0]["speed_up"][-1]
        said = f"{others[0]['recipe']} reaches {base}'s last NELBO "
        said += f"{_times(gain['with'])} as soon with {first}, {_times(gain['without'])} with "
        said += second
        difference = others[0]["difference"]
        before, after = difference["with"], difference["without"]
        said += f"; its lead in nats, {_signed(before)} and {_signed(after)}, "
        said += f"{_verdict(before, after, difference['change'])}."
        lines.append(said)
    learnt = record["unigram"] - record["settings"][1]["recipes"][0]["final"]["mean"]
    if learnt < 0.1 * record["unigram"]:
        lines[-1] += (
            f" But with {second} {base} is only {learnt:+.3f} nats below the token frequencies' "
            "entropy: too little is learnt for the gaps to mean much."
        )
    return lines


def _verdict(before: dict[str, Any], after: dict[str, Any], change: dict[str, Any]) -> str:
    """Whether a quantity moves towards 0, and whether the seeds are sure of it."""
    a, b = before["mean"], after["mean"]
    word = "changes sign" if a * b < 0 else "shrinks" if abs(b) < abs(a) else "grows"
    if change["low"] is None:
        return f"{word} (one seed: no interval)"
    interval = f"change {change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
    sure = change["low"] > 0 or change["high"] < 0
    return f"{word} ({interval})" if sure else f"does not clearly change ({interval})"


def _signed(value: dict[str, Any]) -> str:
    return f"{value['mean']:+.3f}"


def _times(ratio: dict[str, Any]) -> str:
    return "not within its run" if ratio["mean"] is None else f"{ratio['mean']:.2f} times"

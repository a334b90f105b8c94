"""What a record of `unmask.analyze.locality.study` says, in words."""

from typing import Any

Record = dict[str, Any]


def conclusion(record: Record) -> list[str]:
    """The two lines: where the information sits, and the bell that follows."""
    return [_where(record), _which_bell(record)]


def reasoning(record: Record) -> list[str]:
    """How the recommended bell comes about, and what speaks for and against it."""
    bell, found = record["bell"], record["mutual_information"]
    lines = []
    if bell["recipe"]:
        lines += [
            "Learnable at mask rate t, per position and with weight 1: t R(t), with R(t) the "
            "information that reaches a masked token.",
            f"R(t) is predicted from the information between two tokens at distances 1 to "
            f"{max(found['distances'])}, each visible token counting as evidence of its own; "
            f"t R(t) is largest at t = {bell['mean']:.2f}.",
            f"At that rate the chance of the masks alone changes what reaches a token as much as "
            f"a spread of {bell['std']:.2f} in t would: that is the width.",
        ]
    run = record["run"]
    if run is not None:
        errors = run["reach"]["rms_error"]
        listed = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
        lines.append(
            "The windows measure the information that this model can use, not all that the text "
            "holds."
        )
        lines.append(f"Predicted R(t) against the run's H - c(t), RMS error in nats: {listed}.")
        if run["bell"]:
            lines.append(f"The run's own c(t) and windows ask for {run['bell']['recipe']}.")
    return lines


def _where(record: Record) -> str:
    found = record["mutual_information"]
    at = {
        d: (nats, error)
        for d, nats, error in zip(found["distances"], found["nats"], found["stderr"], strict=True)
    }
    last = max(at)
    text = f"Of its {found['entropy']:.2f} nats a token shares " + ", ".join(
        f"{at[d][0]:.3g} ± {at[d][1]:.2g} with the token {d} away"
        for d in (1, 2, 4, last)
        if d in at
    )
    run = record["run"]
    if run is None:
        return text + "."
    held = run["sides"]["both"]["holds"]
    if not all(held.values()):
        return text + "; the model makes nothing of its context."
    parts = " and ".join(
        f"{part} within {v['tokens']:.1f} ± {v['stderr']:.1f} tokens" for part, v in held.items()
    )
    return f"{text}; of what this model can use, {parts}."


def _which_bell(record: Record) -> str:
    bell = record["bell"]
    if not bell["recipe"]:
        return f"{bell['why_not'][0].upper()}{bell['why_not'][1:]}."
    return f"The corpus asks for --recipe {bell['recipe']} (bell:auto computes it)."

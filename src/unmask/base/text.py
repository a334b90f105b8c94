"""Text as a terminal may show it."""

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: "␡"} | {code: f"<{code:x}>" for code in range(0x80, 0xA0)}


def visible(text: str) -> str:
    """Text whose control characters, tabs and line ends apart, are signs that move no cursor."""
    return text.translate(_PICTURES)

"""Text as a terminal may show it."""

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: "␡"} | {code: f"<{code:x}>" for code in range(0x80, 0xA0)}
# What sets the direction of writing: text after it could show in another order than it has.
_DIRECTIONS = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_PICTURES |= {code: f"<{code:x}>" for code in _DIRECTIONS}


def visible(text: str) -> str:
    """Text whose control characters, tabs and line ends apart, are signs that move no cursor."""
    return text.translate(_PICTURES)

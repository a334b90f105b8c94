"""A room's front that imports its files when their names are first asked for.

The options of a command are sections of the rooms' configuration: showing its help must not import
what trains. So a room that holds a section has such a front.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def on_demand(room: str, *files: str) -> Callable[[str], Any]:
    """Make the module-level ``__getattr__`` (PEP 562) of a room.

    Args:
        room: the package's name; its ``__all__`` says which names it offers.
        files: modules of the room, in which a name is looked for in this order: light ones first.
    """

    def find(name: str) -> Any:
        front = sys.modules[room]
        if name in front.__all__:
            for file in files:
                value = getattr(import_module(f"{room}.{file}"), name, None)
                if value is not None:
                    setattr(front, name, value)
                    return value
        raise AttributeError(f"module {room!r} has no attribute {name!r}")

    return find

"""Commands by name: which there are, the help that lists them, and the one that is named."""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unmask.base.errors import UserError, unknown

Run = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Group:
    """Commands that are chosen by the first argument.

    The command NAME is the function ``NAME_command`` of the module NAME, which is imported when the
    command is run: another's help need not wait for it.

    Attributes:
        name: as it is typed, ``unmask analyze``.
        package: where the commands' modules are.
        kind: what one of its commands is, ``analysis``.
        about: what they are for, in a line.
        commands: what each does, in a line, by name.
    """

    name: str
    package: str
    kind: str
    about: str
    commands: Mapping[str, str]

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command that is named first; show the help where it is asked for.

        Raises:
            UserError: no such command.
        """
        if not arguments or arguments[0] in ("-h", "--help"):
            print(self.help())
            return 0
        name, *rest = arguments
        if name not in self.commands:
            if name.startswith("-"):
                raise UserError(f"{self.name} needs the name of its {self.kind} before {name}")
            raise unknown(self.kind, name, self.commands)
        run: Run = pkgutil.resolve_name(f"{self.package}.{name}:{name}_command")
        return run(rest)

    def help(self) -> str:
        """What ``--help`` shows."""
        what = self.kind.upper()
        return f"""\
usage: {self.name} {what} [OPTIONS]

{self.about}

{self.listed()}

{self.name} {what} --help shows its options."""

    def listed(self) -> str:
        """A line for each command."""
        width = max(map(len, self.commands)) + 2
        lines = (f"  {name:<{width}}{summary}" for name, summary in self.commands.items())
        return "\n".join(lines)

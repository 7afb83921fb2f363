"""A parser of command lines that fills in a subcommand when it is called, and names the nearest."""

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that takes options as they are written only, and explains.

    Args:
        *args: Of `argparse.ArgumentParser`.
        describe: Adds the arguments of a subcommand when it is called: what describes a command
            may import much, and ``--help`` of all of them must not.
        **kwargs: Of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        *args: Any,
        describe: Callable[[argparse.ArgumentParser], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self._describe = describe

    def parse_known_args(  # type: ignore[override]  # nothing unknown is ever left
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, and refuse what is unknown with the nearest name."""
        if self._describe is not None:
            self._describe(self)
            self._describe = None
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0])
        return parsed, []

    def _refuse(self, argument: str) -> NoReturn:
        name = argument.partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings]
        if not argument.startswith("-"):
            self.error(f"there must be no further argument, got {argument!r}. See --help.")
        self.error(f"every option must be known, got {name}. {_suggest(name, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = _suggest(str(value), known)
            raise argparse.ArgumentError(
                action, f"must be among {', '.join(known)}, got {value!r}. {hint}"
            )


def _suggest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else "See --help."

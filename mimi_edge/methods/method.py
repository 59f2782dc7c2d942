"""What a method is: a name, settings, and a function from a network to a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.methods.description import Description
from mimi_edge.methods.network import Network
from mimi_edge.texts import excerpt, fault_list

Setting = int | float | str
LARGEST_SIZE = 1 << 20
HELP, SMALLEST, CHOICES = "help", "smallest", "choices"


def setting(default: Setting, text: str, *, smallest: float = 1, choices: tuple[str, ...] = ()) -> Any:
    """A field of a method's settings: the command line, the task file and the checks are made from it.

    Args:
        default: its type is the setting's.
        text: what it means, for `--help`.
        smallest: a number may be.
        choices: what a word may be.
    """
    return field(default=default, metadata={HELP: text, SMALLEST: smallest, CHOICES: choices})


@dataclass(frozen=True)
class NoSettings:
    """Of a method that has none."""


@dataclass(frozen=True)
class Method:
    """A way to adapt a frozen network.

    Attributes:
        name: as `--method` takes it.
        title: as the literature has it.
        paper: where it is from.
        settings: a frozen dataclass whose fields are made by `setting`.
        describe: what it does to a network, with these settings.
        size: the setting that a budget chooses where it was not given; None where there is nothing to choose.
        instead: settings that say as much as the size does.
        step: what the size is a multiple of, with these settings.
        prunes: whether it starts large and is pruned down to the budget.
        head_alone: whether it trains nothing but a new head.
    """

    name: str
    title: str
    paper: str
    describe: Callable[[Network, Any], Description]
    settings: type[Any] = NoSettings
    size: str | None = None
    instead: tuple[str, ...] = ()
    step: Callable[[Any], int] = lambda _: 1
    prunes: bool = False
    head_alone: bool = False

    def on(self, network: Network, settings: Any) -> Description:
        """What it does to a network, with these settings.

        Raises:
            ConfigError: it cannot be on this network, or would change nothing.
        """
        description = self.describe(network, settings)
        if not description.tensors and not self.head_alone:
            raise ConfigError(
                f"--method {self.name} finds nothing to change in this backbone: those weights that it changes are no "
                "linear layers here, or an exported graph keeps them only with a normalisation folded into them. Take "
                "a --method that adds weights of its own, such as mimi or adapters."
            )
        return description

    def settings_of(self, given: Mapping[str, Setting]) -> Any:
        """Settings with these values and the defaults of all others.

        Raises:
            ConfigError: the method has no such setting, or a value makes no sense; every fault is named.
        """
        known = {one.name: one for one in fields(self.settings)}
        has = f"It has {', '.join(map(option, known))}." if known else "It has no settings."
        faults = [f"{option(name)}: {self.name} has no such setting. {has}" for name in given if name not in known]
        faults += [fault for name in given if name in known for fault in _faults(known[name], given[name])]
        if faults:
            raise ConfigError(f"These settings of --method {self.name} do not make sense:\n{fault_list(faults)}")
        numbers = {name: float(value) for name, value in given.items() if isinstance(known[name].default, float)}
        return self.settings(**{**given, **numbers})

    def leaves_size_open(self, given: Mapping[str, Setting]) -> bool:
        """Whether a budget may choose the size, with these settings given."""
        return self.size is not None and not given.keys() & {self.size, *self.instead}

    def sized(self, settings: Any, steps: int) -> Any:
        """The same settings, so many steps large."""
        return settings if self.size is None else replace(settings, **{self.size: steps * self.step(settings)})


def option(name: str) -> str:
    """How a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


def _faults(known: Any, value: Setting) -> list[str]:
    kind, meant = type(known.default), known.metadata
    if isinstance(value, bool) or not (isinstance(value, kind) or (kind is float and isinstance(value, int))):
        return [f"{option(known.name)} must be of type {kind.__name__}, got {excerpt(value)}"]
    if isinstance(value, str):
        allowed = meant[CHOICES]
        return (
            []
            if value in allowed
            else [f"{option(known.name)} must be one of {', '.join(allowed)}, got {excerpt(value)}"]
        )
    if not meant[SMALLEST] <= value <= LARGEST_SIZE:
        return [f"{option(known.name)} must lie between {meant[SMALLEST]} and {LARGEST_SIZE:,}, got {value}"]
    return []

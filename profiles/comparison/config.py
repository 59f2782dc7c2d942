"""What a comparison was asked to do: one frozen value, checked when made, kept in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.builtin import BACKBONE_NAME, DEFAULT_DATA
from mimi_edge.choices import COMPARED_METHODS, SCORE_NAMES, TRIED_RATES, Scope, Store
from mimi_edge.documents import DocumentKind
from mimi_edge.errors import ConfigError
from mimi_edge.files import MEGABYTE
from mimi_edge.methods.catalogue import method_named
from mimi_edge.methods.method import Method
from mimi_edge.texts import excerpt
from mimi_edge.training.config import PRETRAINED, faults_of_size
from mimi_edge.training.recipes import QUICK, RECIPES

KIND = DocumentKind(
    "what a comparison was asked to do",
    largest_bytes=1_000_000,
    mend="Give another --output.",
    absent="Check the folder.",
    version_key=None,
    error=ConfigError,
)


@dataclass(frozen=True)
class ComparisonConfig:
    """All that decides what a comparison finds.

    Attributes:
        methods: names, in the order of the table.
        budgets_mb: for each method that can be made to fit, in MB of 1000^2 bytes.
        seeds: how many; 0, 1, ...
        learning_rates: the same few for every method, of which the validation split chooses.
        data: `builtin:digits`, `builtin:fashion`, or a folder.
        backbone: `builtin` or a timm model's name.
        weights: `pretrained`, `random`, or a safetensors file.
        image_size: S in pixels; None is what the backbone is made for.
        recipe: how all methods are trained, but for what stands here.
        store: how weights are kept in the task files.
        epochs: of each of MiMi's trainings; other methods get as many passes in one.
        batch_size: images in a step.
        rounds: samples of latency for each merged graph; 0 measures none.
        score: importance score of the methods that are pruned.
        scope: whether their sites compete: `global` or `local`.
    """

    methods: tuple[str, ...] = COMPARED_METHODS
    budgets_mb: tuple[float, ...] = (0.5,)
    seeds: int = 3
    learning_rates: tuple[float, ...] = TRIED_RATES
    data: str = DEFAULT_DATA
    backbone: str = BACKBONE_NAME
    weights: str = PRETRAINED
    store: Store = Store.FP16
    epochs: int = 12
    batch_size: int = 64
    rounds: int = 100
    score: str = SCORE_NAMES[0]
    scope: Scope = Scope.GLOBAL
    image_size: int | None = None
    recipe: str = QUICK

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            listed = "\n".join(f"  - {fault}" for fault in faults)
            raise ConfigError(f"This cannot be compared:\n{listed}")


def comparison_document(config: ComparisonConfig) -> dict[str, Any]:
    """The configuration as values that JSON can hold."""
    return asdict(config) | {"store": config.store.value, "scope": config.scope.value}


def differences(ours: ComparisonConfig, theirs: ComparisonConfig) -> list[str]:
    """In what two comparisons differ, a line each."""
    left, right = comparison_document(ours), comparison_document(theirs)
    return [f"{name}: {right[name]} there, {left[name]} here" for name in left if left[name] != right[name]]


@dataclass(frozen=True)
class Entry:
    """A line of the comparison: a method and the budget it is given.

    Attributes:
        method: which.
        budget_mb: None for a method that has no size to choose, which is shown at the size it has.
    """

    method: Method
    budget_mb: float | None

    @property
    def name(self) -> str:
        """Of its tasks: fit for a file."""
        return self.method.name if self.budget_mb is None else f"{self.method.name}-{self.budget_mb:g}mb"


def entries_of(config: ComparisonConfig) -> list[Entry]:
    """The lines of a comparison, in the order of the methods."""
    entries = []
    for name in config.methods:
        method = method_named(name)
        has_size = method.prunes or method.size is not None
        budgets = config.budgets_mb if has_size else (None,)
        entries += [Entry(method, budget) for budget in budgets]
    return entries


def _faults(config: ComparisonConfig) -> Iterator[str]:
    if not config.methods or len(set(config.methods)) < len(config.methods):
        yield f"--methods: expected some, each once, got {', '.join(config.methods) or 'none'}"
    for name in config.methods:
        try:
            method_named(name)
        except ConfigError as error:
            yield str(error)
    numbers: dict[str, tuple[float, ...]] = {
        "--budget-mb": config.budgets_mb,
        "--lrs": config.learning_rates,
        "--seeds": (config.seeds,),
        "--epochs": (config.epochs,),
        "--batch-size": (config.batch_size,),
    }
    for option, values in numbers.items():
        if not values or not all(0 < value < MEGABYTE for value in values) or len(set(values)) < len(values):
            yield f"{option}: expected numbers larger than zero, each once, got {', '.join(map(str, values)) or 'none'}"
    if config.score not in SCORE_NAMES:
        yield f"--score must be one of {', '.join(SCORE_NAMES)}, got {excerpt(config.score)}"
    if config.scope is Scope.STAGES:
        yield "--scope stages needs shares, which are of one backbone and budget: compare takes global or local"
    if config.recipe not in RECIPES:
        yield f"--recipe must be one of {', '.join(RECIPES)}, got {excerpt(config.recipe)}"
    yield from faults_of_size(config.image_size)
    if config.rounds < 0:
        yield f"--rounds must not be negative, got {config.rounds}"

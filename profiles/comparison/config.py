"""What a comparison was asked to do: one frozen value, checked when made, kept in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.builtin import BACKBONE_NAME, DEFAULT_DATA
from mimi_edge.choices import COMPARED_METHODS, MIMI_PLUS, SCORE_NAMES, TRIED_RATES, Scope, Store
from mimi_edge.documents import DocumentKind
from mimi_edge.errors import ConfigError
from mimi_edge.files import MEGABYTE
from mimi_edge.images.image_size import ImageSize, document_of_size
from mimi_edge.methods.catalogue import method_named
from mimi_edge.methods.method import Method
from mimi_edge.texts import excerpt, fault_list
from mimi_edge.training.config import MIMI, PRETRAINED, faults_of_size
from mimi_edge.training.recipes import QUICK, RECIPES

KIND = DocumentKind(
    "what a comparison was asked to do",
    largest_bytes=1_000_000,
    mend="Give another --output.",
    absent="Check the folder.",
    version_key=None,
    error=ConfigError,
)


AT = "@"
"""Between a method and how its weights are kept."""


@dataclass(frozen=True)
class ComparisonConfig:
    """All that decides what a comparison finds.

    Attributes:
        methods: names, in the order of the table; `NAME@STORE` keeps weights in another way than the others,
            and `mimi+` is `mimi@int1`.
        budgets_mb: for each method that can be made to fit, in MB of 1000^2 bytes.
        seeds: how many; 0, 1, ...
        learning_rates: the same few for every method, of which the validation split chooses.
        data: `builtin:digits`, `builtin:fashion`, or a folder.
        backbone: `builtin` or a timm model's name.
        weights: `pretrained`, `random`, or a safetensors file.
        image_size: [H, W]; None is what the backbone is made for.
        recipe: how all methods are trained, but for what stands here.
        store: how weights are kept in the task files.
        epochs: of each of MiMi's trainings; other methods get as many passes in one.
        passes: over the images, for every line: of what is pruned, the last training has what the others leave. None
            for as many as MiMi takes at the budget.
        batch_size: images in a step.
        rounds: samples of latency for each merged graph; 0 measures none.
        score: importance score of the methods that are pruned.
        scope: whether their sites compete: `global` or `local`.
        data_columns: of the data; this and the others as of `TrainingConfig`.
        data_root: folder of named data.
        download: whether named data may be fetched.
        train_images: how many are trained with at most.
        val_images: how many learning rates are chosen by at most.
        train_on_val: train once more on both, with the learning rate that was chosen, and compare that.
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
    image_size: ImageSize | None = None
    recipe: str = QUICK
    data_columns: str = ""
    data_root: str = ""
    download: bool = False
    train_images: int | None = None
    val_images: int | None = None
    train_on_val: bool = False
    passes: int | None = None

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ConfigError(f"This cannot be compared:\n{fault_list(faults)}")


def comparison_document(config: ComparisonConfig) -> dict[str, Any]:
    """The configuration as values that JSON can hold."""
    plain = {"store": config.store.value, "scope": config.scope.value}
    return asdict(config) | plain | {"image_size": document_of_size(config.image_size)}


MAY_GROW = ("methods", "seeds", "learning_rates", "rounds", "download")
"""What a comparison that was begun may be asked for later: it changes nothing about what was trained."""


def differences(ours: ComparisonConfig, theirs: ComparisonConfig) -> list[str]:
    """In what two comparisons differ such that neither can go on with the other, a line each."""
    left, right = comparison_document(ours), comparison_document(theirs)
    fixed = [name for name in left if name not in MAY_GROW]
    return [f"{name}: {right[name]} there, {left[name]} here" for name in fixed if left[name] != right[name]]


@dataclass(frozen=True)
class Entry:
    """A line of the comparison: a method and the budget it is given.

    Attributes:
        method: which.
        budget_mb: None for a method that has no size to choose, which is shown at the size it has.
        own_store: how its weights are kept, where not as those of all others.
    """

    method: Method
    budget_mb: float | None
    own_store: Store | None = None

    @property
    def name(self) -> str:
        """Of its tasks: fit for a file."""
        budget = "" if self.budget_mb is None else f"-{self.budget_mb:g}mb"
        return f"{self.label.replace(AT, '-')}{budget}"

    @property
    def label(self) -> str:
        """What it was asked for as: `mimi`, or `mimi@int1`."""
        return self.method.name if self.own_store is None else f"{self.method.name}{AT}{self.own_store.value}"

    @property
    def title(self) -> str:
        """Of the method as the literature has it, with the store that it has for itself."""
        return self.method.title if self.own_store is None else f"{self.method.title}, {self.own_store.value}"


def entries_of(config: ComparisonConfig) -> list[Entry]:
    """The lines of a comparison, in the order of the methods."""
    entries = []
    for name in config.methods:
        method, store = _method_and_store(name)
        has_size = method.prunes or method.size is not None
        budgets = config.budgets_mb if has_size else (None,)
        entries += [Entry(method, budget, store) for budget in budgets]
    return entries


def _method_and_store(asked: str) -> tuple[Method, Store | None]:
    """What `NAME` or `NAME@STORE` names.

    Raises:
        ConfigError: there is no such method or store.
    """
    if asked == MIMI_PLUS:
        return method_named(MIMI), Store.INT1
    name, at, store = asked.partition(AT)
    if at and store not in [one.value for one in Store]:
        raise ConfigError(
            f"--methods: behind {AT} of {excerpt(asked)} expected one of {', '.join(one.value for one in Store)}"
        )
    return method_named(name, "--methods"), Store(store) if at else None


def _faults(config: ComparisonConfig) -> Iterator[str]:
    if not config.methods or len(set(config.methods)) < len(config.methods):
        yield f"--methods: expected some, each once, got {', '.join(config.methods) or 'none'}"
    for name in config.methods:
        try:
            _method_and_store(name)
        except ConfigError as error:
            yield str(error)
    numbers: dict[str, tuple[float, ...]] = {
        "--budget-mb": config.budgets_mb,
        "--lrs": config.learning_rates,
        "--seeds": (config.seeds,),
        "--epochs": (config.epochs,),
        "--batch-size": (config.batch_size,),
        **({} if config.passes is None else {"--passes": (config.passes,)}),
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

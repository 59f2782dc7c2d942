"""What is asked for when a run is trained, or planned: the options of `train` and `plan`, each said once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import cache, wraps
from typing import Annotated, Any, get_type_hints

import typer

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.choices import ACTIVATION_NAMES, MIMI_PLUS, SCORE_NAMES, Store
from mimi_edge.cli.option_files import CONFIG, LIST, OptionFile, takes_option_file
from mimi_edge.cli.options import image_size_option
from mimi_edge.errors import ConfigError
from mimi_edge.images.free_room import IMAGES
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.method import CHOICES, HELP, Method
from mimi_edge.texts import excerpt
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.augmentation import kinds
from mimi_edge.training.config import (
    FLOPS_COUNTS,
    PRECISIONS,
    ROUND_FROM,
    TrainingConfig,
)
from mimi_edge.training.option_values import RENAMED
from mimi_edge.training.recipes import QUICK, RECIPES

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TrainingConfig)}
KINDS: dict[str, Any] = get_type_hints(TrainingConfig)
ENTRIES = {option.replace("-", "_"): entry for entry, option in RENAMED.items()}
"""Of a configuration, by the parameters of options that have another name."""

DEVICES = ("auto", "cpu", "cuda")
BUDGET, DATA, METHOD, MACHINE = "Budget", "Task", "Method", "Machine"
SETTINGS = "Settings of methods"

Names = Callable[[], Iterable[str]]
"""Words that an option takes, asked for when somebody completes one: some take a moment to find."""


def _backbones() -> tuple[str, ...]:
    """Without timm, which would take seconds."""
    from mimi_edge.training.supported import supported_names

    return (BACKBONE_NAME, *supported_names())


def _parameter(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, option])


def _among(names: Names | None) -> Callable[[str], list[str]] | None:
    """Completes a word in the shell to names that begin with it."""
    if names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _option(
    panel: str,
    entry: str,
    text: str,
    *,
    shown: str | bool = True,
    names: Names | None = None,
    declared: str | None = None,
    **others: Any,
) -> inspect.Parameter:
    """An option for an entry of a configuration, of its kind and with its default.

    Args:
        panel: of the help that it stands in.
        entry: of `TrainingConfig`.
        text: of the help.
        shown: as its default, where the default itself says little.
        names: that it takes, for completion.
        declared: on the command line, where that is not the name with dashes; flags are, to have no opposite.
        others: `kind` and `default`, where they are not those of the entry, and what `typer.Option` knows.
    """
    name = RENAMED.get(entry, entry).replace("-", "_")
    kind, default = others.pop("kind", KINDS.get(entry)), others.pop("default", DEFAULTS.get(entry))
    if kind is bool and declared is None:
        declared = "--" + name.replace("_", "-")
    option = typer.Option(
        *(() if declared is None else (declared,)),
        help=text,
        show_default=shown,
        rich_help_panel=panel,
        autocompletion=_among(names),
        **others,
    )
    return _parameter(name, kind, default, option)


def _of_recipe(
    entry: str, text: str, shown: str | None = None, declared: str | None = None, names: Names | None = None
) -> inspect.Parameter:
    """An option that the recipe decides unless it is given; its default is shown as that of the default recipe."""
    value = RECIPES[QUICK][entry]
    shown = shown or (f"{value:g}" if isinstance(value, float) else str(value))
    kind = KINDS[entry] | None
    return _option(METHOD, entry, text, shown=shown, names=names, declared=declared, kind=kind, default=None)


OPTIONS = (
    _option(BUDGET, "budget_mb", "Largest size of the task file, in MB of 1000^2 bytes.", kind=float | None),
    _option(BUDGET, "budget_gflops", "Most operations of a forward pass, in GFLOPs of 1000^3.", kind=float | None),
    _option(
        BUDGET,
        "target_accuracy",
        "Stop at the smallest task that still gets this share of the validation images right, such as 0.95; "
        "with or without a budget.",
    ),
    _option(
        BUDGET,
        "store",
        "How weights are kept in the task file.",
        shown=f"fp16; int1 with {MIMI_PLUS}",
        kind=Store | None,
        default=None,
    ),
    _option(BUDGET, "head_store", "How those of the head are.", shown="as the others, int8 if fewer bits"),
    _option(
        BUDGET,
        "round_from",
        f"Training from which on weights of fewer than 8 bits are rounded: {' or '.join(ROUND_FROM)}.",
        names=lambda: ROUND_FROM,
    ),
    _option(
        BUDGET,
        "flops_count",
        f"What counts as an operation: {', '.join(FLOPS_COUNTS)}.",
        names=lambda: FLOPS_COUNTS,
    ),
    _option(
        DATA,
        "data",
        "A folder with a folder of images per class (optionally under train/ val/ test/), "
        "a .csv, .tsv or .parquet with the columns path, label and, if you like, split; or a name: builtin:digits, "
        "builtin:fashion, generated:sprites-location, -orientation or -count, torchvision:NAME, hf:NAME.",
    ),
    _option(
        DATA,
        "data_columns",
        "Titles in a table, where they are others: path=file,label=class,split=fold.",
        shown=False,
    ),
    _option(DATA, "data_root", "Folder of torchvision's data sets, or of the hub's.", shown="this user's own"),
    _option(DATA, "download", "Fetch named data that is not there."),
    _option(DATA, "train_images", "So many to train with, such as VTAB's 800.", shown="all"),
    _option(DATA, "val_images", "So many for validation, such as 200.", shown="all"),
    _option(DATA, "train_on_val", "Learn from those, too, once all is chosen."),
    _option(
        DATA,
        "backbone",
        "builtin, or one of timm's, such as swin_tiny_patch4_window7_224; mimi-edge backbones lists them.",
        shown="builtin for built-in data; for your own, one for photographs that is on this machine",
        names=_backbones,
        kind=str | None,
        default=None,
    ),
    _option(
        DATA,
        "weights",
        "The backbone's weights: pretrained (from timm, needs a network once), a .safetensors file, random.",
    ),
    _parameter(
        "image_size",
        ImageSize | None,
        None,
        image_size_option(
            "Pixels of the images the backbone sees, a side or height x width (224x384); fewer are faster.", DATA
        ),
    ),
    _option(DATA, "name", "Name of the task.", shown="that of the data", kind=str | None, default=None),
    _option(DATA, "skip_bad_images", "Go on without unusable images."),
    _option(
        MACHINE,
        "images",
        f"Where decoded images are kept: {', '.join(IMAGES)}; mapped is a file in the cache.",
        names=lambda: IMAGES,
    ),
    _option(DATA, "min_images", "Leave out classes with fewer images (of those to train on).", min=0),
    _option(
        METHOD,
        "method",
        f"How the backbone is adapted: {', '.join(METHODS)}; or {MIMI_PLUS}, MiMi in one bit with the passes "
        "over the images that it takes in sixteen.",
        names=lambda: (MIMI_PLUS, *METHODS),
    ),
    _option(
        METHOD,
        "recipe",
        f"How to train, as a whole: {', '.join(RECIPES)}; options given beside it win.",
        names=lambda: RECIPES,
        kind=str,
        default=QUICK,
    ),
    _of_recipe("epochs", "Epochs of each training."),
    _of_recipe("pruning_epochs", "Epochs of each training before a pruning.", "as many"),
    _of_recipe(
        "warm_up_epochs", "Epochs in which the learning rate rises.", "a twentieth of a training, 10 steps or more"
    ),
    _of_recipe("batch_size", "Images in a step."),
    _of_recipe("learning_rate", "Highest learning rate."),
    _of_recipe("weight_decay", "AdamW's weight decay."),
    _of_recipe(
        "decay_vectors", "Weight decay on biases and scales, too.", "decay", "--decay-vectors/--no-decay-vectors"
    ),
    _of_recipe("clip_norm", "Longest gradient; longer ones are shortened.", "any length"),
    _of_recipe("label_smoothing", "Share of the target spread over all classes."),
    _of_recipe(
        "augment",
        f"Variation of training images: {kinds.NONE}, or some of {', '.join(kinds.KINDS)} with + between them.",
        names=lambda: kinds.SHOWN,
    ),
    _option(METHOD, "balance", "As many images of each class in an epoch."),
    _of_recipe("mixup", "Alpha of Mixup; 0 for none."),
    _of_recipe("cutmix", "Alpha of CutMix; 0 for none."),
    _of_recipe("drop_path", "Share of the backbone's last branches that a step leaves out."),
    _of_recipe("rho", "Share of the adapters' cost that a pruning takes."),
    _option(METHOD, "start_ratio", "M/N: width of a site by neurons to start with."),
    _option(METHOD, "score", f"Importance of a neuron: {', '.join(SCORE_NAMES)}.", names=lambda: SCORE_NAMES),
    _option(
        METHOD,
        "scope",
        "Whether all sites compete (global), each loses alike (local), or stages keep fixed shares (stages).",
    ),
    _option(
        METHOD,
        "stage_shares",
        "Of the neurons that stay, for each stage of the backbone, such as 1,2,4,8; goes with --scope stages.",
        shown=False,
        metavar=LIST,
        kind=str,
        default="",
    ),
    _option(
        METHOD,
        "passes_of",
        "As many passes over the images as with this store: what prunes less often trains longest at the end.",
        shown="as many as it takes",
    ),
    _option(
        METHOD,
        "passes",
        "Over the images, in all trainings together: the last has what the others leave.",
        shown="as many as --epochs come to",
    ),
    _option(METHOD, "one_shot", "Prune once, with as many epochs in total."),
    _option(METHOD, "activation", "Of the adapters: gelu or relu.", names=lambda: ACTIVATION_NAMES),
    _option(METHOD, "seed", "Of everything drawn."),
    _option(
        METHOD,
        "patience",
        "End a training when validation accuracy has not risen for so many epochs.",
        shown="never",
    ),
    _option(
        METHOD,
        "val_interval",
        "Epochs from one look at the validation images to the next; the last epoch of a training has one.",
        shown="every one that --patience or --max-minutes need, else what costs little",
    ),
    _option(
        MACHINE,
        "max_minutes",
        "End in time: trainings get fewer epochs, and the budget is met all the same.",
        shown="as long as it takes",
    ),
    _option(
        MACHINE,
        "keep_rounds",
        "Keep and measure the task after each training, and draw accuracy against bytes.",
        declared="--keep-rounds/--no-keep-rounds",
    ),
    _option(MACHINE, "tensorboard", "Write the log for TensorBoard, too."),
    _option(
        MACHINE,
        "grad_checkpointing",
        "Take less memory and up to half more time: gradients compute most of a pass again.",
    ),
    _option(MACHINE, "device", "auto (the GPU if there is one), cpu, or cuda.", names=lambda: DEVICES),
    _option(MACHINE, "precision", f"Of training: {', '.join(PRECISIONS)}.", names=lambda: PRECISIONS),
)
"""Of `train` and `plan`, in the order in which the help shows them."""


def training_config(**values: Any) -> TrainingConfig:
    """The configuration that options describe, by their parameters; those that are missing are at their defaults.

    Raises:
        ConfigError: they do not make sense.
    """
    values = {name: option.default for name, option in training_options().items()} | values
    settings = {one.name: values.pop(one.name) for one in _setting_options()}
    entries = {ENTRIES.get(name, name): value for name, value in values.items()}
    entries["stage_shares"] = _shares(entries["stage_shares"])
    return asked_config(**entries, settings={name: value for name, value in settings.items() if value is not None})


def _shares(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(share) for share in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise ConfigError(
            f"--stage-shares must be numbers with commas between them, such as 1,2,4,8; got {excerpt(text)}."
        ) from error


@cache
def _setting_options() -> tuple[inspect.Parameter, ...]:
    """An option for each setting of a method that `train` has no other option for."""
    users: dict[str, list[tuple[Method, Field[Any]]]] = {}
    for method in METHODS.values():
        for one in fields(method.settings):
            if one.name not in DEFAULTS:
                users.setdefault(one.name, []).append((method, one))
    return tuple(_setting_option(name, found) for name, found in users.items())


def _setting_option(name: str, users: list[tuple[Method, Field[Any]]]) -> inspect.Parameter:
    said: dict[str, list[str]] = {}
    for method, one in users:
        default = (
            ""
            if method.size == name
            else f" ({one.default:g})"
            if isinstance(one.default, float)
            else f" ({one.default})"
        )
        said.setdefault(one.metadata[HELP], []).append(method.name + default)
    text = " ".join(f"{', '.join(methods)}: {meaning}" for meaning, methods in said.items())
    kind = type(users[0][1].default)
    choices = users[0][1].metadata[CHOICES]
    shown = "what the budget allows" if any(method.size == name for method, _ in users) else False
    names = (lambda: choices) if choices else None
    return _option(SETTINGS, name, text, shown=shown, names=names, kind=kind | None, default=None)


def training_options() -> dict[str, inspect.Parameter]:
    """All options that describe a training, by their parameters, in their order."""
    return {one.name: one for one in (*OPTIONS, *_setting_options())}


class AskedConfig:
    """What the training options said, before it is known whether they are needed.

    Args:
        values: of the options, by parameter.
        file: that some of them are from.
    """

    def __init__(self, values: dict[str, Any], file: OptionFile) -> None:
        self._values, self._file = values, file

    def config(self) -> TrainingConfig:
        """The configuration.

        Raises:
            ConfigError: the options do not make sense.
        """
        with self._file.checked():
            return training_config(**self._values)

    @property
    def given(self) -> list[str]:
        """Options that are not at their defaults."""
        parameters = training_options()
        changed = [name for name, value in self._values.items() if value != parameters[name].default]
        if self._file.path is not None:
            return [f"--{CONFIG}"]
        return ["--" + name.replace("_", "-") for name in changed]


def takes_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command all training options, and `--config`; it receives them as `asked: AskedConfig`."""
    shared = training_options()
    own = inspect.signature(command, eval_str=True).parameters
    file = inspect.Parameter("file", inspect.Parameter.KEYWORD_ONLY, annotation=OptionFile)

    @wraps(command)
    def taking(**values: Any) -> None:
        asked = AskedConfig({name: values.pop(name) for name in shared}, values.pop("file"))
        command(asked=asked, **values)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*shared.values(), *own.values(), file)
        if parameter.name != "asked"
    ]
    taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del taking.__wrapped__
    return takes_option_file(taking)

"""What is asked for when a run is trained, or planned: the options of `train` and `plan`, each said once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import wraps
from typing import Annotated, Any

import typer

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.choices import ACTIVATION_NAMES, SCORE_NAMES, Scope, Store
from mimi_edge.errors import ConfigError
from mimi_edge.images.free_room import IMAGES
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.method import CHOICES, HELP, Method, Setting
from mimi_edge.texts import excerpt
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.config import (
    AUGMENTATIONS,
    FLOPS_COUNTS,
    PRECISIONS,
    ROUND_FROM,
    TrainingConfig,
)

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TrainingConfig)}

DEVICES = ("auto", "cpu", "cuda")
BUDGET, DATA, METHOD, MACHINE = "Budget", "Task", "Method", "Machine"
SETTINGS = "Settings of methods"


def _among(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes a word in the shell to names that begin with it."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _backbones() -> tuple[str, ...]:
    """Without timm, which would take seconds."""
    from mimi_edge.training.supported import supported_names

    return (BACKBONE_NAME, *supported_names())


def training_config(
    budget_mb: Annotated[
        float | None,
        typer.Option(help="Largest size of the task file, in MB of 1000^2 bytes.", rich_help_panel=BUDGET),
    ] = None,
    budget_gflops: Annotated[
        float | None,
        typer.Option(help="Most operations of a forward pass, in GFLOPs of 1000^3.", rich_help_panel=BUDGET),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Stop at the smallest task that still gets this share of the validation images right, such as 0.95; "
            "with or without a budget.",
            rich_help_panel=BUDGET,
        ),
    ] = DEFAULTS["target_accuracy"],
    store: Annotated[
        Store, typer.Option(help="How weights are kept in the task file.", rich_help_panel=BUDGET)
    ] = DEFAULTS["store"],
    store_head: Annotated[
        Store | None,
        typer.Option(
            help="How those of the head are.", show_default="as the others, int8 if fewer bits", rich_help_panel=BUDGET
        ),
    ] = DEFAULTS["head_store"],
    round_from: Annotated[
        str,
        typer.Option(
            help=f"Training from which on weights of fewer than 8 bits are rounded: {' or '.join(ROUND_FROM)}.",
            autocompletion=_among(lambda: ROUND_FROM),
            rich_help_panel=BUDGET,
        ),
    ] = DEFAULTS["round_from"],
    flops_count: Annotated[
        str,
        typer.Option(
            help=f"What counts as an operation: {', '.join(FLOPS_COUNTS)}.",
            autocompletion=_among(lambda: FLOPS_COUNTS),
            rich_help_panel=BUDGET,
        ),
    ] = DEFAULTS["flops_count"],
    data: Annotated[
        str,
        typer.Option(
            help="A folder with a folder of images per class (optionally under train/ val/ test/), "
            "or builtin:digits, builtin:fashion.",
            rich_help_panel=DATA,
        ),
    ] = DEFAULTS["data"],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="builtin, or one of timm's, such as swin_tiny_patch4_window7_224; mimi-edge backbones lists them.",
            show_default="builtin for built-in data; for your own, one for photographs that is on this machine",
            autocompletion=_among(_backbones),
            rich_help_panel=DATA,
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="The backbone's weights: pretrained (from timm, needs a network once), a .safetensors file, random.",
            rich_help_panel=DATA,
        ),
    ] = DEFAULTS["weights"],
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels of the images the backbone sees; fewer are faster.",
            show_default="what it is made for",
            rich_help_panel=DATA,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the task.", show_default="that of the data", rich_help_panel=DATA)
    ] = None,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without unusable images.", rich_help_panel=DATA)
    ] = DEFAULTS["skip_bad_images"],
    images: Annotated[
        str,
        typer.Option(
            help=f"Where decoded images are kept: {', '.join(IMAGES)}; mapped is a file in the cache.",
            autocompletion=_among(lambda: IMAGES),
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["images"],
    min_images: Annotated[
        int,
        typer.Option(min=0, help="Leave out classes with fewer images (of those to train on).", rich_help_panel=DATA),
    ] = DEFAULTS["min_images"],
    method: Annotated[
        str,
        typer.Option(
            help=f"How the backbone is adapted: {', '.join(METHODS)}.",
            autocompletion=_among(lambda: METHODS),
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["method"],
    epochs: Annotated[int, typer.Option(help="Epochs of each training.", rich_help_panel=METHOD)] = DEFAULTS["epochs"],
    batch_size: Annotated[int, typer.Option(help="Images in a step.", rich_help_panel=METHOD)] = DEFAULTS["batch_size"],
    lr: Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=METHOD)] = DEFAULTS[
        "learning_rate"
    ],
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.", rich_help_panel=METHOD)] = DEFAULTS[
        "weight_decay"
    ],
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target spread over all classes.", rich_help_panel=METHOD)
    ] = DEFAULTS["label_smoothing"],
    augment: Annotated[
        str,
        typer.Option(
            help=f"Variation of training images: {', '.join(AUGMENTATIONS)}.",
            autocompletion=_among(lambda: AUGMENTATIONS),
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["augment"],
    balance: Annotated[
        bool,
        typer.Option("--balance", help="As many images of each class in an epoch.", rich_help_panel=METHOD),
    ] = DEFAULTS["balance"],
    rho: Annotated[
        float, typer.Option(help="Share of the adapters' cost that a pruning takes.", rich_help_panel=METHOD)
    ] = DEFAULTS["rho"],
    start_ratio: Annotated[
        float, typer.Option(help="M/N: width of a site by neurons to start with.", rich_help_panel=METHOD)
    ] = DEFAULTS["start_ratio"],
    score: Annotated[
        str,
        typer.Option(
            help=f"Importance of a neuron: {', '.join(SCORE_NAMES)}.",
            autocompletion=_among(lambda: SCORE_NAMES),
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["score"],
    scope: Annotated[
        Scope,
        typer.Option(
            help="Whether all sites compete (global), each loses alike (local), or stages keep fixed shares (stages).",
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["scope"],
    stage_shares: Annotated[
        str,
        typer.Option(
            help="Of the neurons that stay, for each stage of the backbone, such as 1,2,4,8; goes with --scope stages.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ] = "",
    one_shot: Annotated[
        bool,
        typer.Option("--one-shot", help="Prune once, with as many epochs in total.", rich_help_panel=METHOD),
    ] = DEFAULTS["one_shot"],
    activation: Annotated[
        str,
        typer.Option(
            help="Of the adapters: gelu or relu.",
            autocompletion=_among(lambda: ACTIVATION_NAMES),
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["activation"],
    seed: Annotated[int, typer.Option(help="Of everything drawn.", rich_help_panel=METHOD)] = DEFAULTS["seed"],
    device: Annotated[
        str,
        typer.Option(
            help="auto (the GPU if there is one), cpu, or cuda.",
            autocompletion=_among(lambda: DEVICES),
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["device"],
    precision: Annotated[
        str,
        typer.Option(
            help=f"Of training: {', '.join(PRECISIONS)}.",
            autocompletion=_among(lambda: PRECISIONS),
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["precision"],
    **settings: Setting | None,
) -> TrainingConfig:
    """The configuration that the options describe.

    Raises:
        ConfigError: they do not make sense.
    """
    return asked_config(
        budget_mb=budget_mb,
        budget_gflops=budget_gflops,
        store=store,
        head_store=store_head,
        round_from=round_from,
        flops_count=flops_count,
        data=data,
        backbone=backbone,
        weights=weights,
        name=name,
        skip_bad_images=skip_bad_images,
        images=images,
        min_images=min_images,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        augment=augment,
        balance=balance,
        rho=rho,
        start_ratio=start_ratio,
        score=score,
        scope=scope,
        stage_shares=_shares(stage_shares),
        one_shot=one_shot,
        target_accuracy=target_accuracy,
        activation=activation,
        seed=seed,
        device=device,
        precision=precision,
        method=method,
        settings={name: value for name, value in settings.items() if value is not None},
        image_size=image_size,
    )


def _shares(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(share) for share in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise ConfigError(
            f"--stage-shares must be numbers with commas between them, such as 1,2,4,8; got {excerpt(text)}."
        ) from error


def _setting_options() -> list[inspect.Parameter]:
    """An option for each setting of a method that `train` has no other option for."""
    users: dict[str, list[tuple[Method, Field[Any]]]] = {}
    for method in METHODS.values():
        for one in fields(method.settings):
            if one.name not in DEFAULTS:
                users.setdefault(one.name, []).append((method, one))
    return [_setting_option(name, found) for name, found in users.items()]


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
    option = typer.Option(
        help=text,
        show_default="what the budget allows" if any(method.size == name for method, _ in users) else False,
        autocompletion=_among(lambda: choices) if choices else None,
        rich_help_panel=SETTINGS,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _training_options() -> dict[str, inspect.Parameter]:
    """All options that describe a training, in their order."""
    own = inspect.signature(training_config, eval_str=True).parameters.values()
    options = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD] + _setting_options()
    return {one.name: one for one in options}


class AskedConfig:
    """What the training options said, before it is known whether they are needed.

    Args:
        values: of the options, by parameter.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def config(self) -> TrainingConfig:
        """The configuration.

        Raises:
            ConfigError: the options do not make sense.
        """
        return training_config(**self._values)

    @property
    def given(self) -> list[str]:
        """Options that are not at their defaults."""
        parameters = _training_options()
        changed = [name for name, value in self._values.items() if value != parameters[name].default]
        return ["--" + name.replace("_", "-") for name in changed]


def takes_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command all training options; it receives them as `asked: AskedConfig`."""
    shared = _training_options()
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def taking(**values: Any) -> None:
        asked = AskedConfig({name: values.pop(name) for name in shared})
        command(asked=asked, **values)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*shared.values(), *own.values())
        if parameter.name != "asked"
    ]
    taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del taking.__wrapped__
    return taking

"""What is asked for when a run is trained, or planned: the options of `train` and `plan`, each said once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import wraps
from typing import Annotated, Any

import typer

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.choices import ACTIVATION_NAMES, MIMI_PLUS, SCORE_NAMES, Scope, Store
from mimi_edge.cli.option_files import CONFIG, LIST, OptionFile, takes_option_file
from mimi_edge.cli.options import image_size_option
from mimi_edge.errors import ConfigError
from mimi_edge.images.free_room import IMAGES
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.method import CHOICES, HELP, Method, Setting
from mimi_edge.texts import excerpt
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.augmentation import kinds
from mimi_edge.training.config import (
    FLOPS_COUNTS,
    PRECISIONS,
    ROUND_FROM,
    TrainingConfig,
)
from mimi_edge.training.recipes import QUICK, RECIPES

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


def _of_recipe(
    entry: str, help_text: str, default: str | None = None, declared: str | None = None, completed: Iterable[str] = ()
) -> Any:
    """An option that the recipe decides unless it is given; its default is shown as that of the default recipe."""
    shown = f"{RECIPES[QUICK][entry]:g}" if isinstance(RECIPES[QUICK][entry], float) else str(RECIPES[QUICK][entry])
    return typer.Option(
        *([] if declared is None else [declared]),
        help=help_text,
        show_default=default or shown,
        autocompletion=_among(lambda: completed) if completed else None,
        rich_help_panel=METHOD,
    )


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
        Store | None,
        typer.Option(
            help="How weights are kept in the task file.",
            show_default=f"fp16; int1 with {MIMI_PLUS}",
            rich_help_panel=BUDGET,
        ),
    ] = None,
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
            "a .csv, .tsv or .parquet with the columns path, label and, if you like, split; or a name: builtin:digits, "
            "builtin:fashion, generated:sprites-location, -orientation or -count, torchvision:NAME, hf:NAME.",
            rich_help_panel=DATA,
        ),
    ] = DEFAULTS["data"],
    data_columns: Annotated[
        str,
        typer.Option(
            help="Titles in a table, where they are others: path=file,label=class,split=fold.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = DEFAULTS["data_columns"],
    data_root: Annotated[
        str,
        typer.Option(
            help="Folder of torchvision's data sets, or of the hub's.",
            show_default="this user's own",
            rich_help_panel=DATA,
        ),
    ] = DEFAULTS["data_root"],
    download: Annotated[
        bool, typer.Option("--download", help="Fetch named data that is not there.", rich_help_panel=DATA)
    ] = DEFAULTS["download"],
    train_images: Annotated[
        int | None,
        typer.Option(help="So many to train with, such as VTAB's 800.", show_default="all", rich_help_panel=DATA),
    ] = DEFAULTS["train_images"],
    val_images: Annotated[
        int | None,
        typer.Option(help="So many for validation, such as 200.", show_default="all", rich_help_panel=DATA),
    ] = DEFAULTS["val_images"],
    train_on_val: Annotated[
        bool,
        typer.Option("--train-on-val", help="Learn from those, too, once all is chosen.", rich_help_panel=DATA),
    ] = DEFAULTS["train_on_val"],
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
        ImageSize | None,
        image_size_option(
            "Pixels of the images the backbone sees, a side or height x width (224x384); fewer are faster.", DATA
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
            help=f"How the backbone is adapted: {', '.join(METHODS)}; or {MIMI_PLUS}, MiMi in one bit with the passes "
            "over the images that it takes in sixteen.",
            autocompletion=_among(lambda: (MIMI_PLUS, *METHODS)),
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["method"],
    recipe: Annotated[
        str,
        typer.Option(
            help=f"How to train, as a whole: {', '.join(RECIPES)}; options given beside it win.",
            autocompletion=_among(lambda: RECIPES),
            rich_help_panel=METHOD,
        ),
    ] = QUICK,
    epochs: Annotated[int | None, _of_recipe("epochs", "Epochs of each training.")] = None,
    pruning_epochs: Annotated[
        int | None, _of_recipe("pruning_epochs", "Epochs of each training before a pruning.", "as many")
    ] = None,
    warm_up_epochs: Annotated[
        int | None,
        _of_recipe(
            "warm_up_epochs", "Epochs in which the learning rate rises.", "a twentieth of a training, 10 steps or more"
        ),
    ] = None,
    batch_size: Annotated[int | None, _of_recipe("batch_size", "Images in a step.")] = None,
    lr: Annotated[float | None, _of_recipe("learning_rate", "Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, _of_recipe("weight_decay", "AdamW's weight decay.")] = None,
    decay_vectors: Annotated[
        bool | None,
        _of_recipe(
            "decay_vectors", "Weight decay on biases and scales, too.", "decay", "--decay-vectors/--no-decay-vectors"
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, _of_recipe("clip_norm", "Longest gradient; longer ones are shortened.", "any length")
    ] = None,
    label_smoothing: Annotated[
        float | None, _of_recipe("label_smoothing", "Share of the target spread over all classes.")
    ] = None,
    augment: Annotated[
        str | None,
        _of_recipe(
            "augment",
            f"Variation of training images: {kinds.NONE}, or some of {', '.join(kinds.KINDS)} with + between them.",
            completed=kinds.SHOWN,
        ),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option("--balance", help="As many images of each class in an epoch.", rich_help_panel=METHOD),
    ] = DEFAULTS["balance"],
    mixup: Annotated[float | None, _of_recipe("mixup", "Alpha of Mixup; 0 for none.")] = None,
    cutmix: Annotated[float | None, _of_recipe("cutmix", "Alpha of CutMix; 0 for none.")] = None,
    drop_path: Annotated[
        float | None, _of_recipe("drop_path", "Share of the backbone's last branches that a step leaves out.")
    ] = None,
    rho: Annotated[float | None, _of_recipe("rho", "Share of the adapters' cost that a pruning takes.")] = None,
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
            metavar=LIST,
            rich_help_panel=METHOD,
        ),
    ] = "",
    passes_of: Annotated[
        Store | None,
        typer.Option(
            help="As many passes over the images as with this store: what prunes less often trains longest at the end.",
            show_default="as many as it takes",
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["passes_of"],
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
    patience: Annotated[
        int | None,
        typer.Option(
            help="End a training when validation accuracy has not risen for so many epochs.",
            show_default="never",
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["patience"],
    val_interval: Annotated[
        int | None,
        typer.Option(
            help="Epochs from one look at the validation images to the next; the last epoch of a training has one.",
            show_default="every one that --patience or --max-minutes need, else what costs little",
            rich_help_panel=METHOD,
        ),
    ] = DEFAULTS["val_interval"],
    max_minutes: Annotated[
        float | None,
        typer.Option(
            help="End in time: trainings get fewer epochs, and the budget is met all the same.",
            show_default="as long as it takes",
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["max_minutes"],
    keep_rounds: Annotated[
        bool,
        typer.Option(
            "--keep-rounds/--no-keep-rounds",
            help="Keep and measure the task after each training, and draw accuracy against bytes.",
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["keep_rounds"],
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write the log for TensorBoard, too.", rich_help_panel=MACHINE),
    ] = DEFAULTS["tensorboard"],
    grad_checkpointing: Annotated[
        bool,
        typer.Option(
            "--grad-checkpointing",
            help="Take less memory and up to half more time: gradients compute most of a pass again.",
            rich_help_panel=MACHINE,
        ),
    ] = DEFAULTS["grad_checkpointing"],
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
        data_columns=data_columns,
        data_root=data_root,
        download=download,
        train_images=train_images,
        val_images=val_images,
        train_on_val=train_on_val,
        backbone=backbone,
        weights=weights,
        name=name,
        skip_bad_images=skip_bad_images,
        images=images,
        min_images=min_images,
        recipe=recipe,
        epochs=epochs,
        pruning_epochs=pruning_epochs,
        warm_up_epochs=warm_up_epochs,
        batch_size=batch_size,
        learning_rate=lr,
        weight_decay=weight_decay,
        decay_vectors=decay_vectors,
        clip_norm=clip_norm,
        label_smoothing=label_smoothing,
        augment=augment,
        mixup=mixup,
        cutmix=cutmix,
        drop_path=drop_path,
        balance=balance,
        rho=rho,
        start_ratio=start_ratio,
        score=score,
        scope=scope,
        stage_shares=_shares(stage_shares),
        passes_of=passes_of,
        one_shot=one_shot,
        target_accuracy=target_accuracy,
        activation=activation,
        seed=seed,
        device=device,
        precision=precision,
        method=method,
        settings={name: value for name, value in settings.items() if value is not None},
        image_size=image_size,
        patience=patience,
        val_interval=val_interval,
        max_minutes=max_minutes,
        keep_rounds=keep_rounds,
        tensorboard=tensorboard,
        grad_checkpointing=grad_checkpointing,
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
        parameters = _training_options()
        changed = [name for name, value in self._values.items() if value != parameters[name].default]
        if self._file.path is not None:
            return [f"--{CONFIG}"]
        return ["--" + name.replace("_", "-") for name in changed]


def takes_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command all training options, and `--config`; it receives them as `asked: AskedConfig`."""
    shared = _training_options()
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

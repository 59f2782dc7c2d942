"""What a training run was asked to do: one frozen value, checked when made, kept in the run folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mimi_edge.budgets import NO_BUDGET, Budget
from mimi_edge.builtin import BACKBONE_NAME, DEFAULT_DATA
from mimi_edge.choices import ACTIVATION_NAMES, EARLIER_SCORE_NAMES, SCORE_NAMES, Scope, Store
from mimi_edge.documents import DocumentKind, document_bytes, raw_document, typed_document
from mimi_edge.errors import ConfigError
from mimi_edge.images.free_room import AUTO, IMAGES
from mimi_edge.images.image_size import ImageSize, document_of_size
from mimi_edge.methods.catalogue import METHODS, method_named
from mimi_edge.methods.method import Method, Setting
from mimi_edge.sites import Neurons
from mimi_edge.texts import excerpt, fault_list, safe_line
from mimi_edge.training.augmentation.kinds import augment_faults
from mimi_edge.version import __version__

PRECISIONS = ("auto", "fp32", "bf16")
FLOPS_COUNTS = ("full", "paper")
ROUND_FROM = ("first", "last")
PRETRAINED = "pretrained"
RANDOM = "random"
CONFIG_FILE = "config.json"
"""In a run folder: what the run was asked to do."""
SPLIT_FILE = "split.json"
"""In a run folder: which image is in which split."""
LEAKAGE_FILE = "leakage.csv"
"""In a run folder: images that are the same as others; not there where there are none."""
CHECKPOINT_FILE = "checkpoint.safetensors"
"""In a run folder: where the training stands."""
KEPT_FILE = "kept.checkpoint"
"""In a run folder that has a target accuracy: the best task so far, which the next pruning may spoil."""
ANSWERS_FILE = "recorded.answers"
"""In a run folder: what torch answered with the finished task, for exports to be held against."""
REPORT_FILE = "report.json"
"""In a run folder, the last to be written: what the run made."""
CHART_FILE = "neurons.png"
"""In a run folder: a picture of the neurons."""
OPTIONS_FILE = "options.yaml"
"""In a run folder: the same as `CONFIG_FILE`, in the words of the command line, for `--config` of another run."""
LOG_FILE = "log.csv"
"""In a run folder: a line for each epoch."""
CURVE_FILE = "curve.png"
"""In a run folder of a method that prunes: accuracy against bytes, a point for each training."""
CONFUSION_FILE, CONFUSION_CHART_FILE = "confusion.csv", "confusion.png"
"""In a run folder: which class is taken for which, of the test split."""
ROUNDS_FOLDER = "rounds"
"""In a run folder of a method that prunes: the task after each training."""
TENSORBOARD_FOLDER = "tensorboard"
"""In a run folder, where it was asked for: what TensorBoard reads."""
TASK_SUFFIX = ".safetensors"
START = "start"
CONFIG_KIND = DocumentKind(
    "the configuration of a run",
    largest_bytes=1_000_000,
    mend="Restore it, or start a new run.",
    absent="Check the folder.",
    version_key=None,
    error=ConfigError,
)
SPLIT_KIND = DocumentKind(
    "the written split of a run",
    largest_bytes=500_000_000,
    mend="Restore it, or start a new run, which makes a new split.",
    absent="Start a new run.",
    version_key=None,
    error=ConfigError,
)
TAKEN_NAMES = frozenset({"backbone", "checkpoint", "manifest"})
"""Files in run folders and packages have these names already."""
LONGEST_NAME_BYTES = 200
LARGEST_SIDE = 4096
MIMI = "mimi"
SHARED_SETTINGS = ("activation", "start_ratio")
"""Options that methods have as settings, too."""
_NOT_PART_OF_THE_TASK = (
    *("device", "skip_bad_images", "tensorboard", "keep_rounds", "images", "data_root", "download"),
    *("grad_checkpointing", "val_interval"),
)


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides what a run makes.

    Attributes:
        budget: that the finished task must meet.
        data: a folder, a table of images, or the name of a data set, such as `builtin:digits`.
        backbone: `builtin` or a timm model's name.
        weights: `pretrained`, `random`, or a safetensors file.
        image_size: [H, W] of what the backbone sees; None is what it is made for.
        name: of the task.
        store: how weights are kept in the task file.
        epochs: of each training; there is one more training than prunings.
        pruning_epochs: of each training that a pruning follows; None is as many as of the last.
        warm_up_epochs: in which a training's learning rate rises; None is a twentieth of its steps, and at
            least 10 of them, or half where there are fewer than 20.
        decay_vectors: whether weight decay is on biases and scales, too.
        clip_norm: longest gradient of all that is trained together; None for any.
        drop_path: share of the last block's branches that a training step leaves out; earlier blocks lose fewer.
        mixup: alpha of Mixup; 0 for none.
        cutmix: alpha of CutMix; 0 for none.
        batch_size: images in a step.
        learning_rate: at its highest, after the warm-up.
        weight_decay: AdamW's, on adapters and head.
        label_smoothing: share of the target spread over all classes.
        rho: share of the adapters' cost that one pruning takes.
        start_ratio: M/N to start with.
        score: name of the importance score.
        scope: whether sites compete.
        activation: phi.
        flops_count: `full` or `paper`, see `mimi_edge.training.flops`.
        augment: `none`, or kinds of `mimi_edge.training.augmentation.kinds` with + between them.
        precision: `bf16` autocast, `fp32`, or `auto`: bf16 where the hardware has it.
        device: `auto`, or a torch device.
        seed: of everything drawn.
        skip_bad_images: go on without images that cannot be used.
        min_images: classes that have fewer are left out.
        stage_shares: of the neurons that stay, for each stage, where the scope is `stages`; only proportions matter.
        one_shot: prune once, straight to the budget, with as many epochs in total.
        target_accuracy: share of the validation images that the task must still get right, which ends the pruning;
            None where only the budget does.
        method: name of the method that adapts the backbone.
        settings: of the method, those that are not its defaults.
        data_columns: titles of the columns of a table of images, where they are not the usual ones.
        head_store: how the head's weights are kept; None is what suits the store.
        round_from: one of ROUND_FROM: the training from which on weights of few bits are rounded as they will be kept.
        max_minutes: that training may take, in all sittings together; None for as long as it takes.
        patience: epochs after which a training ends whose validation accuracy has not risen; None for never.
        val_interval: epochs from one look at the validation images to the next; None is as often as something depends
            on it, else about as often as costs little (`mimi_edge.training.val_interval`).
        tensorboard: write files for TensorBoard, too.
        grad_checkpointing: keep of each block only what goes in, and compute the rest again for gradients.
        keep_rounds: keep the task after each training, of methods that prune.
        images: one of IMAGES: where decoded images are kept.
        data_root: the folder that named data lies in which has to be fetched once; this user's own if empty.
        download: whether the network may be used to fetch it.
        train_images: how many images are trained with at most.
        val_images: how many are for validation at most.
        train_on_val: learn from the images for validation, too, once all is chosen.
        passes_of: the store with which a run would take as many passes over the images as this one is to take: what is
            pruned less often, because its weights are kept in fewer bits, has the rest in its last training. None for
            as many as it takes.
        passes: over the images, in all trainings together: the last one has what the others leave. None for as many as
            `epochs` come to.
        balance: draw as many training images of each class in an epoch, however many it has.
    """

    budget: Budget
    data: str = DEFAULT_DATA
    backbone: str = BACKBONE_NAME
    weights: str = PRETRAINED
    name: str = "task"
    store: Store = Store.FP16
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    rho: float = 0.5
    start_ratio: float = 1.0
    score: str = "mimi"
    scope: Scope = Scope.GLOBAL
    activation: str = "gelu"
    flops_count: str = "full"
    augment: str = "none"
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    skip_bad_images: bool = False
    min_images: int = 0
    stage_shares: tuple[float, ...] = ()
    one_shot: bool = False
    target_accuracy: float | None = None
    method: str = MIMI
    settings: Mapping[str, Setting] = field(default_factory=dict)
    image_size: ImageSize | None = None
    data_columns: str = ""
    head_store: Store | None = None
    round_from: str = "first"
    max_minutes: float | None = None
    patience: int | None = None
    tensorboard: bool = False
    keep_rounds: bool = True
    pruning_epochs: int | None = None
    warm_up_epochs: int | None = None
    decay_vectors: bool = True
    clip_norm: float | None = None
    drop_path: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    images: str = AUTO
    balance: bool = False
    data_root: str = ""
    download: bool = False
    train_images: int | None = None
    val_images: int | None = None
    train_on_val: bool = False
    passes_of: Store | None = None
    passes: int | None = None
    grad_checkpointing: bool = False
    val_interval: int | None = None

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise ConfigError(f"These options do not make sense:\n{fault_list(faults)}")

    @property
    def limits(self) -> dict[str, int]:
        """How many images of some splits are used at most."""
        asked = {"train": self.train_images, "val": self.val_images}
        return {split: most for split, most in asked.items() if most is not None}

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the task's content."""
        document = {name: value for name, value in config_document(self).items() if name not in _NOT_PART_OF_THE_TASK}
        if self.method == MIMI:  # as it was hashed when there was no other
            del document["method"], document["settings"]
        for name in _LATER:  # likewise
            if name in document and document[name] == _DEFAULTS[name]:
                del document[name]
        return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


_RECIPES = ("pruning_epochs", "warm_up_epochs", "decay_vectors", "clip_norm", "drop_path", "mixup", "cutmix")
_LATER = (
    *("stage_shares", "one_shot", "target_accuracy", "image_size", "head_store", "round_from", "max_minutes"),
    *("patience", "data_columns", "images", "balance", *_RECIPES),
    *("data_root", "download", "train_images", "val_images", "train_on_val", "passes_of", "passes"),
    "grad_checkpointing",
)
_DEFAULTS = {one.name: one.default for one in fields(TrainingConfig)}


def config_document(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as values that JSON can hold."""
    named = {
        "store": config.store,
        "scope": config.scope,
        "head_store": config.head_store,
        "passes_of": config.passes_of,
    }
    chosen = {name: None if choice is None else choice.value for name, choice in named.items()}
    return asdict(config) | chosen | {"image_size": document_of_size(config.image_size)}


def config_from_document(document: Mapping[str, Any], where: object = "The run's configuration") -> TrainingConfig:
    """The configuration that a run folder keeps.

    Entries that are missing were not known to the release that began the run, and take their defaults; so every new
    one must have a default that does what was done before it.

    Args:
        document: as `config_document` made it.
        where: it is from, for messages.

    Raises:
        ConfigError: entries are of a newer mimi-edge, or do not make sense.
    """
    known = {field.name for field in fields(TrainingConfig)}
    if strange := sorted(document.keys() - known):
        raise ConfigError(
            f"{where} has entries that mimi-edge {__version__} does not know: "
            f"{', '.join(map(safe_line, strange[:10]))}. "
            "A newer mimi-edge began this run; go on with that one, or start a new run."
        )
    return typed_document(document, where, CONFIG_KIND, TrainingConfig)


def run_files(task: str) -> tuple[str, ...]:
    """Names of all files that a run makes in its folder, given the name of its task."""
    pictures = (CHART_FILE, CURVE_FILE, CONFUSION_CHART_FILE)
    told = (OPTIONS_FILE, LOG_FILE, CONFUSION_FILE, REPORT_FILE)
    return (
        CONFIG_FILE,
        SPLIT_FILE,
        LEAKAGE_FILE,
        CHECKPOINT_FILE,
        KEPT_FILE,
        ANSWERS_FILE,
        *told,
        *pictures,
        task + TASK_SUFFIX,
    )


def read_config(folder: Path) -> tuple[TrainingConfig, Neurons | None]:
    """The configuration of a run folder, and the neurons it was told to start with, if any.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / CONFIG_FILE
    if not os.path.lexists(path):
        raise ConfigError(f"{folder} holds no run: there is no {CONFIG_FILE} in it. Check the folder.")
    document = raw_document(document_bytes(path, CONFIG_KIND), path, CONFIG_KIND)
    start = typed_document({START: document.pop(START, None)}, path, CONFIG_KIND, _Start).start
    return config_from_document(document, path), start


def read_split(folder: Path) -> dict[str, Any]:
    """Which image is in which split, as a run folder has it written down.

    Raises:
        ConfigError: it is not there, or damaged.
    """
    path = folder / SPLIT_FILE
    return raw_document(document_bytes(path, SPLIT_KIND), path, SPLIT_KIND)


def method_settings(config: TrainingConfig) -> tuple[Method, Any]:
    """The method that was asked for, and its settings.

    Raises:
        ConfigError: there is no such method, or the settings make no sense.
    """
    method = method_named(config.method)
    own = {one.name for one in fields(method.settings)}
    shared = {name: getattr(config, name) for name in SHARED_SETTINGS if name in own}
    return method, method.settings_of({**shared, **config.settings})


@dataclass(frozen=True)
class _Start:
    start: dict[str, int] | None


def _faults(config: TrainingConfig) -> list[str]:
    positive = {
        "--epochs": config.epochs,
        "--batch-size": config.batch_size,
        "--lr": config.learning_rate,
        "--start-ratio": config.start_ratio,
        **({} if config.passes is None else {"--passes": config.passes}),
    }
    faults = [
        f"{option} must be finite and larger than zero, got {value}"
        for option, value in positive.items()
        if not 0 < value < math.inf
    ]
    ranges = {"--rho": (config.rho, 0, 1), "--label-smoothing": (config.label_smoothing, -1e-9, 1)}
    faults += [
        f"{option} must lie between {max(0, low)} and {high}, got {value}"
        for option, (value, low, high) in ranges.items()
        if not low < value < high
    ]
    if not config.min_images >= 0:
        faults.append(f"--min-images must not be negative, got {config.min_images}")
    if not 0 <= config.weight_decay < math.inf:
        faults.append(f"--weight-decay must be finite and not negative, got {config.weight_decay}")
    if not 0 <= config.seed < 2**63:
        faults.append(f"--seed must lie between 0 and 2^63, got {config.seed}")
    for option, value in {"--data": config.data, "--weights": config.weights}.items():
        if not _is_unicode(value):
            faults.append(
                f"{option} must be valid Unicode, or the run could not be resumed; got {excerpt(value)}: rename it, or "
                "make a link to it under another name"
            )
    if not _names_a_file(config.name):
        faults.append(
            f"--name must be fit for a file: no slashes, no dot in front, at most {LONGEST_NAME_BYTES} bytes of "
            f"Unicode, and none of {', '.join(sorted(TAKEN_NAMES))}; got {excerpt(config.name)}"
        )
    faults += [*_faults_of_recipe(config), *faults_of_size(config.image_size)]
    faults += [*_faults_of_images(config), *_faults_of_endings(config), *_faults_of_pruning(config)]
    try:
        method_settings(config)
    except ConfigError as error:
        faults += str(error).split("\n")
    score = EARLIER_SCORE_NAMES.get(config.score, config.score)
    choices = {
        "--score": (score, SCORE_NAMES),
        "--precision": (config.precision, PRECISIONS),
        "--activation": (config.activation, ACTIVATION_NAMES),
        "--flops-count": (config.flops_count, FLOPS_COUNTS),
        "--round-from": (config.round_from, ROUND_FROM),
        "--images": (config.images, IMAGES),
    }
    faults += [
        f"{option} must be one of {', '.join(allowed)}, got {excerpt(value)}"
        for option, (value, allowed) in choices.items()
        if value not in allowed
    ]
    return faults


def faults_of_size(image_size: ImageSize | None) -> Iterator[str]:
    """What is wrong with a size of images, before it is known what the backbone makes of it."""
    if image_size is not None and max(image_size) > LARGEST_SIDE:
        yield f"--image-size must be 1 to {LARGEST_SIDE} pixels, got {image_size}"


def _faults_of_images(config: TrainingConfig) -> Iterator[str]:
    """What is wrong with how many images are used for what."""
    for split, most in config.limits.items():
        if most < 1:
            yield f"--{split}-images must be at least 1, got {most}"
    decided = {"--target-accuracy": config.target_accuracy, "--patience": config.patience}
    if config.train_on_val and (given := [option for option, value in decided.items() if value is not None]):
        yield (
            f"--train-on-val leaves no images that are not trained on for {' and '.join(given)} to decide by; "
            "give one or the other"
        )


def _faults_of_endings(config: TrainingConfig) -> Iterator[str]:
    """What is wrong with what ends a training before its last epoch."""
    if config.max_minutes is not None and not 0 < config.max_minutes < math.inf:
        yield f"--max-minutes must be finite and larger than zero, got {config.max_minutes}"
    if config.patience is not None and config.patience < 1:
        yield f"--patience must be at least 1 epoch, got {config.patience}"
    yield from _faults_of_looks(config)


def _faults_of_looks(config: TrainingConfig) -> Iterator[str]:
    if config.val_interval is None:
        return
    if config.val_interval < 1:
        yield f"--val-interval must be at least 1 epoch, got {config.val_interval}"
    every = {"--patience": config.patience, "--max-minutes": config.max_minutes}
    if looking := [option for option, value in every.items() if value is not None]:
        yield f"--val-interval goes without {' and '.join(looking)}: validation is looked at after every epoch there"


def _faults_of_recipe(config: TrainingConfig) -> Iterator[str]:
    """What is wrong with the course of each training, and with how images are varied."""
    # How long the last training is, where --passes decides it, is known once the prunings are planned.
    shortest = config.passes or min(config.epochs, config.pruning_epochs or config.epochs)
    if config.pruning_epochs is not None and config.pruning_epochs < 1:
        yield f"--pruning-epochs must be at least 1, got {config.pruning_epochs}"
    elif config.warm_up_epochs is not None and not 0 <= config.warm_up_epochs < shortest:
        yield (
            f"--warm-up-epochs must be at least 0, and fewer than the {shortest} of the shortest training, got "
            f"{config.warm_up_epochs}"
        )
    if config.clip_norm is not None and not 0 < config.clip_norm < math.inf:
        yield f"--clip-norm must be finite and larger than zero, got {config.clip_norm}"
    if not 0 <= config.drop_path < 1:
        yield f"--drop-path must be at least 0 and less than 1, got {config.drop_path}"
    for option, alpha in {"--mixup": config.mixup, "--cutmix": config.cutmix}.items():
        if not 0 <= alpha < math.inf:
            yield f"{option} must be finite and not negative, got {alpha}"
    yield from augment_faults(config.augment)


def _faults_of_pruning(config: TrainingConfig) -> Iterator[str]:
    """Where options that say how to prune do not go together."""
    given = {
        "--one-shot": config.one_shot,
        "--stage-shares": bool(config.stage_shares),
        "--target-accuracy": config.target_accuracy is not None,
        "--score": config.score != TrainingConfig.score,
        "--scope": config.scope is not TrainingConfig.scope,
        "--rho": config.rho != TrainingConfig.rho,
        "--pruning-epochs": config.pruning_epochs is not None,
        "--passes-of": config.passes_of is not None,
    }
    pruned = [method.name for method in METHODS.values() if method.prunes]
    if any(given.values()) and config.method in METHODS and config.method not in pruned:
        options = ", ".join(option for option, value in given.items() if value)
        yield f"{options}: --method {config.method} is not pruned; give that to one that is: {', '.join(pruned)}"
    if not all(0 < share < math.inf for share in config.stage_shares):
        yield f"--stage-shares must be finite and larger than zero, got {_listed(config.stage_shares)}"
    if config.scope is Scope.STAGES and len(config.stage_shares) < 2:
        yield (
            "--scope stages needs --stage-shares, one for each of at least two stages, such as --stage-shares "
            f"1,2,4,8; got {_listed(config.stage_shares) or 'none'}"
        )
    if config.scope is not Scope.STAGES and config.stage_shares:
        yield f"--stage-shares go with --scope stages, got --scope {config.scope.value}"
    if config.target_accuracy is not None and not 0 < config.target_accuracy <= 1:
        yield (
            "--target-accuracy must be a share of the validation images, above 0 and at most 1 (0.95 is 95 %), got "
            f"{config.target_accuracy:g}"
        )
    if config.budget.is_open and config.target_accuracy is None:
        yield f"{NO_BUDGET} To stop by accuracy alone: --target-accuracy"
    if config.passes_of is not None and config.passes is not None:
        yield "--passes and --passes-of both say how long the last training is; give one of them"
    if config.one_shot and config.passes_of is not None:
        yield "--passes-of adds to the last of several trainings; leave it out with --one-shot"
    if config.budget.is_open and config.one_shot:
        yield "--one-shot goes straight to a budget; give --budget-mb, --budget-gflops or both"


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _is_unicode(text: str) -> bool:
    """Whether it can be written into the run's configuration and be read again as what it was."""
    return not any(unicodedata.category(letter) == "Cs" for letter in text)


def _names_a_file(name: str) -> bool:
    """Whether the task can lie under its name in a run folder and a package."""
    strange = any(letter in "/\\" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    too_long = len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME_BYTES
    return bool(name) and not (strange or too_long or name.startswith(".") or name.casefold() in TAKEN_NAMES)

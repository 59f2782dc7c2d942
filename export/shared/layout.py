"""How much room one graph for many tasks has: neurons at each site and classes, as wide as the widest task needs.

Padding changes no answer. A neuron of zeros adds phi(0) * 0 = 0, and a class that a task does not have gets a logit
that no other is below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.documents import FaultyError, typed
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.strategies import why_not_shared
from mimi_edge.sites import Site
from mimi_edge.tasks.descriptions import settings_of
from mimi_edge.tasks.task import BackboneIdentity, Task
from mimi_edge.texts import fault_list


@dataclass(frozen=True)
class Spare:
    """Room for tasks to come, beyond what the given ones need.

    Attributes:
        neurons: on top at each site, up to the site's width.
        classes: on top.
        sites: that get the spare neurons although none of the given tasks uses them.

    Raises:
        ConfigError: a number is below 0.
    """

    neurons: int = 0
    classes: int = 0
    sites: tuple[Site, ...] = ()

    def __post_init__(self) -> None:
        if min(self.neurons, self.classes) < 0:
            raise ConfigError(
                f"Spare room must be 0 or more, got {self.neurons} neurons and {self.classes} classes. Correct it."
            )


@dataclass(frozen=True)
class SharedLayout:
    """What one graph for many tasks has room for.

    Attributes:
        backbone: the network that all tasks belong to.
        input_size: H and W of the images.
        activation: phi of all adapters.
        neurons: N of each site that has an input; sites that are missing have none.
        widths: M of the same sites.
        classes: C, outputs of the head.

    Raises:
        ConfigError: values contradict each other; every fault is named.
    """

    backbone: BackboneIdentity
    input_size: ImageSize
    activation: str
    neurons: Mapping[str, int]
    widths: Mapping[str, int]
    classes: int

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ConfigError(f"This layout cannot be used:\n{fault_list(faults)}\nMake it from task files.")

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that have an input, in the order of their names."""
        return tuple(sorted(self.neurons))


NO_SPARE = Spare()


def layout_of(
    tasks: Sequence[Task], *, spare: Spare = NO_SPARE, rounded: Callable[[int], int] = lambda neurons: neurons
) -> SharedLayout:
    """The smallest layout that all these tasks fit.

    Args:
        tasks: of one backbone, with one activation and one image size.
        spare: room for tasks to come.
        rounded: makes a number of neurons one that the hardware likes, and no smaller.

    Raises:
        ConfigError: there is no task, or the tasks disagree; every fault is named.
    """
    if not tasks:
        raise ConfigError("One graph for many tasks needs at least one task, got none. Name a task file.")
    if faults := list(_disagreements(tasks)):
        raise ConfigError(
            f"These tasks cannot share one graph:\n{fault_list(faults)}\nShare those that agree, or give each its own."
        )
    header = tasks[0].header
    widths = {site.name: site.width for site in spare.sites if spare.neurons}
    for task in tasks:
        widths |= task.widths
    return SharedLayout(
        backbone=header.backbone,
        input_size=header.preprocessing.size,
        activation=header.activation,
        neurons={site: rounded(_room(site, width, tasks, spare)) for site, width in sorted(widths.items())},
        widths=dict(sorted(widths.items())),
        classes=max(len(task.header.classes) for task in tasks) + spare.classes,
    )


def misfits(task: Task, layout: SharedLayout) -> tuple[str, ...]:
    """Why a task needs a new graph, a sentence for each reason; empty where it fits the padding."""
    return tuple(_misfits(task, layout))


def layout_document(layout: SharedLayout) -> dict[str, Any]:
    """The layout in JSON's types; `read_layout` takes it back."""
    tables = {"neurons": dict(layout.neurons), "widths": dict(layout.widths)}
    return asdict(layout) | tables | {"input_size": layout.input_size.document}


def read_layout(document: Mapping[str, Any]) -> SharedLayout:
    """A layout from what `layout_document` made of it.

    Raises:
        ArtifactError: something is missing or makes no sense.
    """
    try:
        return typed(document, SharedLayout)
    except (FaultyError, ConfigError) as error:
        raise ArtifactError(
            f"The description of a graph for many tasks is damaged ({error}). Export the tasks again."
        ) from error


def _room(site: str, width: int, tasks: Sequence[Task], spare: Spare) -> int:
    widest = max(task.neurons.get(site, 0) for task in tasks)
    return max(widest, min(width, widest + spare.neurons))


def _disagreements(tasks: Sequence[Task]) -> Iterator[str]:
    """Everything in which tasks differ that one graph has only once, with who says what."""
    headers = [task.header for task in tasks]
    for header in headers:
        if (reason := why_not_shared(*settings_of(header))) is not None:
            yield f"{header.name} ({header.method.name}): {reason}"
    yield from _difference("backbone", [(it.name, str(it.backbone)) for it in headers])
    yield from _difference("features", [(it.name, str(it.backbone.features)) for it in headers])
    yield from _difference("activation", [(it.name, it.activation) for it in headers])
    yield from _difference("image size", [(it.name, f"{it.preprocessing.size} px") for it in headers])
    for site in sorted({site for task in tasks for site in task.sites}):
        users = [task for task in tasks if site in task.sites]
        yield from _difference(f"width of {site}", [(task.header.name, str(task.widths[site])) for task in users])


def _difference(what: str, said: Sequence[tuple[str, str]]) -> Iterator[str]:
    if len({value for _, value in said}) > 1:
        yield f"{what}: " + ", ".join(f"{name} has {value}" for name, value in said)


def _misfits(task: Task, layout: SharedLayout) -> Iterator[str]:
    header = task.header
    if header.backbone.sha256 != layout.backbone.sha256:
        yield f"backbone: the task was trained on {header.backbone}, the graph is of {layout.backbone}"
    if header.backbone.features != layout.backbone.features:
        yield f"features: the task's head takes {header.backbone.features}, the graph gives {layout.backbone.features}"
    if header.activation != layout.activation:
        yield f"activation: the task has {header.activation}, the graph {layout.activation}"
    if header.preprocessing.size != layout.input_size:
        yield f"image size: the task takes {header.preprocessing.size} px, the graph {layout.input_size} px"
    for site, count in task.neurons.items():
        room = layout.neurons.get(site, 0)
        if count > room:
            yield f"site {site}: the task has {count} neurons, the graph has room for {room}"
        elif task.widths[site] != layout.widths[site]:
            yield f"site {site}: the task has width {task.widths[site]}, the graph {layout.widths[site]}"
    if len(header.classes) > layout.classes:
        yield f"classes: the task has {len(header.classes)}, the graph has room for {layout.classes}"


def _faults(layout: SharedLayout) -> Iterator[str]:
    if layout.activation not in ACTIVATION_NAMES:
        yield f"activation: expected one of {', '.join(ACTIVATION_NAMES)}, got {layout.activation!r}"
    counts = {"classes": layout.classes, "features": layout.backbone.features}
    counts |= {f"neurons of {site}": count for site, count in layout.neurons.items()}
    counts |= {f"width of {site}": width for site, width in layout.widths.items()}
    for what, count in counts.items():
        if type(count) is not int or count < 1:
            yield f"{what}: expected a whole number above 0, got {count!r}"
    if layout.neurons.keys() != layout.widths.keys():
        yield f"sites: neurons are of {sorted(layout.neurons)}, widths of {sorted(layout.widths)}"

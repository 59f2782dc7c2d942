"""How many bytes a package takes, file by file as they lie there, beside as many full models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mimi_edge.profiles.inventory import folder_files

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package


@dataclass(frozen=True)
class TaskStorage:
    """What one task adds to a package: its file, and its merged graph, which holds no weights."""

    task_file_bytes: int
    graph_bytes: int


@dataclass(frozen=True)
class PackageStorage:
    """What lies in a package's folder.

    Attributes:
        backbone_graph_bytes: of the bare graph.
        backbone_weights_bytes: of the weight file, which all tasks share.
        package_bytes: of everything in the folder, manifest included.
        tasks: by name.
    """

    backbone_graph_bytes: int
    backbone_weights_bytes: int
    package_bytes: int
    tasks: Mapping[str, TaskStorage]

    @property
    def backbone_bytes(self) -> int:
        """Graph and weights of the backbone."""
        return self.backbone_graph_bytes + self.backbone_weights_bytes

    @property
    def full_models_bytes(self) -> int:
        """What as many copies of the backbone would take, one fine-tuned for each task; their heads not counted."""
        return len(self.tasks) * self.backbone_bytes


def package_storage(package: Package) -> PackageStorage:
    """Asks the file system for the sizes of a package's files.

    Raises:
        OSError: a file is missing.
    """
    return PackageStorage(
        backbone_graph_bytes=package.backbone_graph.stat().st_size,
        backbone_weights_bytes=package.backbone_weights.stat().st_size,
        package_bytes=sum(folder_files(package.folder).values()),
        tasks={
            name: TaskStorage(task.task_file.stat().st_size, task.graph.stat().st_size)
            for name, task in package.tasks.items()
        },
    )

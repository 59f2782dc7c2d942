"""`mimi_edge.profile`: what `mimi-edge profile` does, as a call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend, backend_named
from mimi_edge.events import Listener, silent

if TYPE_CHECKING:
    from mimi_edge.profiles.reports import Report


def profile(
    sources: str | Path | Sequence[str | Path] = "package",
    *,
    tasks: Sequence[str] | None = None,
    runs: Sequence[str | Path] = (),
    data: str | Path | None = None,
    backend: Backend | str = Backend.ORT_CPU,
    batches: Sequence[int] = (1,),
    rounds: int = 100,
    power: bool = False,
    threads: int | None = None,
    trust: bool = False,
    listener: Listener = silent,
) -> Report:
    """Measures bytes, accuracy, latency and memory of artefacts, each in a process of its own, in turns.

    Args:
        sources: packages, task files, graphs and engines.
        tasks: of packages; None is all.
        runs: folders of the runs that made tasks: their test splits give the accuracy.
        data: where the images of the one task are, without a run.
        backend: that runs packages, tasks and graphs.
        batches: images at a time.
        rounds: samples of each artefact and batch.
        power: measure joules, too.
        threads: of the CPU's part.
        trust: measure engines that no package vouches for.
        listener: hears how far it is.

    Raises:
        ArtifactError: a source is damaged.
        ConfigError: what is asked makes no sense.
        MimiEdgeError: the backend is not installed, or there is no power meter.
    """
    from mimi_edge.profiles.plan import Plan
    from mimi_edge.profiles.profiler import profile_sources
    from mimi_edge.profiles.runtimes.artefact import Wanted

    wanted = Wanted(
        backend=backend_named(backend),
        tasks=None if tasks is None else tuple(dict.fromkeys(tasks)),
        threads=threads,
        trust=trust,
        listener=listener,
    )
    return profile_sources(
        [Path(one) for one in ([sources] if isinstance(sources, str | Path) else sources)],
        wanted,
        Plan(tuple(batches), rounds, power=power),
        runs=[Path(run) for run in runs],
        data=None if data is None else str(data),
    )

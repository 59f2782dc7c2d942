"""The profiler: artefacts, each in a process of its own, in turns; what fails is told, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.accuracy import count_right
from mimi_edge.profiles.artefacts import Artefact, Wanted, file_sizes, find_artefacts
from mimi_edge.profiles.board.finding import Board, BoardState, find_board, throttled_between
from mimi_edge.profiles.devices.roofline import estimate, why_not
from mimi_edge.profiles.devices.work import Work, work_of
from mimi_edge.profiles.energy import PowerPlan, energy_of, power_meter, rested
from mimi_edge.profiles.environment import Environment, current_environment
from mimi_edge.profiles.latency import Samples, WarmUp, ratio_of_medians
from mimi_edge.profiles.preparing import preparation_of_made_up, preparation_of_split
from mimi_edge.profiles.processes import COMMAND, PATIENCE_S, Crew
from mimi_edge.profiles.reports import (
    EnergyUse,
    MeasuredAccuracy,
    MeasuredArtefact,
    Measurement,
    MemoryUse,
    Preparation,
    RatioTo,
    Report,
)
from mimi_edge.profiles.storage import PackageStorage, package_storage
from mimi_edge.profiles.turns import Taken, Turn, take_turns

if TYPE_CHECKING:
    from mimi_edge.export.packages import Package
    from mimi_edge.images.decoding import DecodedSplit
    from mimi_edge.images.splits import Split
    from mimi_edge.profiles.devices.device import Device
    from mimi_edge.profiles.devices.roofline import Estimate

DEFAULT_ROUNDS = 100
"""Samples of each artefact: as few as still have a p99."""
GIGA = 1e9
OPENING = "opening"


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """What the accuracy of a task's artefacts is measured on.

    Attributes:
        split: `train`, `val` or `test`.
        decoded: its images, as the task's `fit` makes them.
        source: where they came from, to time their reading; None where that is not known.
    """

    split: str
    decoded: DecodedSplit
    source: Split | None = None


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        batches: images at a time, one interleaved run for each.
        rounds: samples of each artefact and batch.
        seed: of images and of the order of measurement.
        warm_up: when artefacts count as warm.
        power: whether joules are measured, too.
        device: whose data sheet is set beside the measurements, None for none.
        patience_s: seconds of silence after which a process is given up.
        command: starts the process of an artefact; tests and benchmarks have others.
    """

    batches: tuple[int, ...] = (1,)
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0
    warm_up: WarmUp = field(default_factory=WarmUp)
    power: bool = False
    device: Device | None = None
    patience_s: float = PATIENCE_S
    command: Callable[[Artefact], Sequence[str]] = lambda _: COMMAND

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or self.rounds < 1 or len(set(self.batches)) < len(self.batches):
            raise ConfigError(
                "Expected batches and rounds of at least 1, each batch once, got batches "
                f"{list(self.batches)}, rounds {self.rounds}."
            )


def profile_sources(
    sources: Sequence[Path],
    wanted: Wanted | None = None,
    plan: Plan | None = None,
    images: Mapping[str, LabelledImages] | None = None,
) -> Report:
    """Finds what sources hold, and measures it.

    Args:
        sources: packages, task files, graphs and engines.
        wanted: backend, tasks and so on; ONNX Runtime on the CPU by default.
        plan: how to measure.
        images: by task, for the accuracy of its artefacts.

    Raises:
        ArtifactError: a source is damaged.
        ConfigError: what is asked makes no sense.
        MimiEdgeError: the backend is not installed, or there is no power meter.
    """
    from mimi_edge.export.reading import undisturbed

    wanted = wanted or Wanted()
    check_backend(wanted.backend)
    with undisturbed(sources):
        artefacts = find_artefacts(sources, wanted)
        measured = profile(
            artefacts, plan, images, storage=storage_of(sources), threads=wanted.threads, listener=wanted.listener
        )
        return with_ledger(measured, sources)


def check_backend(backend: Backend) -> None:
    """Makes sure that what runs packages and graphs is installed, before anything is started.

    Raises:
        MimiEdgeError: it is not, with the line that installs it.
    """
    from mimi_edge.export import onnx_runtime

    if backend in onnx_runtime.PROVIDERS:
        onnx_runtime.check_backend(backend)


def storage_of(sources: Sequence[Path]) -> PackageStorage | None:
    """Bytes of the package, where one package is among the sources."""
    package = _only_package(sources)
    return None if package is None else package_storage(package)


def with_ledger(report: Report, sources: Sequence[Path]) -> Report:
    """The report with what many tasks like those of its package would take, where one package is among the sources."""
    package = _only_package(sources)
    if package is None or not package.tasks:
        return report
    from mimi_edge.profiles.fleet import fleet_ledger, measured_memory
    from mimi_edge.profiles.ledger import ledger_document

    return replace(report, ledger=ledger_document(fleet_ledger(package, measured=measured_memory(report))))


def _only_package(sources: Sequence[Path]) -> Package | None:
    folders = [source for source in sources if source.is_dir()]
    if len(folders) != 1:
        return None
    from mimi_edge.export.packages import read_package

    return read_package(folders[0], (), verify=False)


def profile(
    artefacts: Sequence[Artefact],
    plan: Plan | None = None,
    images: Mapping[str, LabelledImages] | None = None,
    *,
    storage: PackageStorage | None = None,
    threads: int | None = None,
    board: Board | None = None,
    listener: Listener = silent,
) -> Report:
    """Measures artefacts.

    Args:
        artefacts: each with a name of its own; the first that can be measured is the reference of the ratios.
        plan: how to measure.
        images: by task.
        storage: of their package, for the report.
        threads: that runtimes were told to use, for the report.
        board: this machine; found if None.
        listener: hears how far it is.

    Raises:
        ConfigError: images are of a task that no artefact has.
        MimiEdgeError: there is no power meter, or it does not answer.
    """
    plan, images = plan or Plan(), images or {}
    _check_images(artefacts, images)
    board = board or find_board()
    meter = power_meter(board) if plan.power else None
    made, before = datetime.now(timezone.utc).isoformat(timespec="seconds"), board.read_state()
    environment = current_environment(threads=threads, providers=_providers(artefacts), board=board)
    prepared = _preparations(artefacts, images, listener)
    with Crew(plan.patience_s) as crew:
        session = _Session(crew, {one.name: one for one in artefacts}, plan, listener)
        session.open()
        power = None if meter is None or not crew.names else rested(meter)
        for batch in plan.batches:
            session.measure(batch, power)
        session.ask_memory()
        session.classify(images)
    results = [_result(one, session, prepared.get(one.name)) for one in artefacts]
    return Report(
        made=made,
        seed=plan.seed,
        environment=_with_marks(environment, (before, board.read_state()), artefacts, results),
        artefacts=tuple(results),
        method=_method(plan, session.turns),
        storage=storage,
    )


def _check_images(artefacts: Sequence[Artefact], images: Mapping[str, LabelledImages]) -> None:
    tasks = sorted({one.task for one in artefacts if one.task is not None})
    if unknown := sorted(set(images) - set(tasks)):
        raise ConfigError(
            f"There are images of {', '.join(unknown)}; what is profiled has the tasks {', '.join(tasks) or 'none'}. "
            "Give the --run of one of these."
        )


def _providers(artefacts: Sequence[Artefact]) -> tuple[str, ...]:
    """ONNX Runtime's, of the backends that are used."""
    from mimi_edge.export.onnx_runtime import PROVIDERS

    return tuple(dict.fromkeys(name for one in artefacts for name in PROVIDERS.get(one.backend, ())))


def _preparations(
    artefacts: Sequence[Artefact], images: Mapping[str, LabelledImages], listener: Listener
) -> dict[str, Preparation]:
    """Time of preprocessing by artefact; what is prepared alike is timed once."""
    timed: dict[tuple[Preprocessing, str | None], Preparation] = {}
    found = {}
    for done, one in enumerate(artefacts):
        listener(Advance("preprocessing", done, len(artefacts)))
        if one.preprocessing is None:
            continue
        given = images.get(one.task or "")
        source = None if given is None else given.source
        key = (one.preprocessing, None if source is None else one.task)
        if key not in timed:
            timed[key] = (
                preparation_of_made_up(one.preprocessing)
                if source is None
                else preparation_of_split(source, one.preprocessing)
            )
        found[one.name] = timed[key]
    listener(Advance("preprocessing", len(artefacts), len(artefacts)))
    return found


@dataclass
class _Session:
    """What has been measured so far."""

    crew: Crew
    artefacts: Mapping[str, Artefact]
    plan: Plan
    listener: Listener
    floors: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[tuple[str, int], Samples] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    energy: dict[tuple[str, int], EnergyUse] = field(default_factory=dict)
    memory: dict[str, MemoryUse] = field(default_factory=dict)
    accuracy: dict[str, MeasuredAccuracy] = field(default_factory=dict)

    def open(self) -> None:
        """Starts a process for each artefact, one after the other, and opens it there."""
        for done, (name, artefact) in enumerate(self.artefacts.items()):
            self.listener(Advance(OPENING, done, len(self.artefacts)))
            self.crew.add(name, self.plan.command(artefact))
            answer = self.crew.ask(name, OPENING, {"do": "open", "opening": artefact.opening.document()})
            if answer is not None:
                self.floors[name] = answer
        self.listener(Advance(OPENING, len(self.artefacts), len(self.artefacts)))

    def measure(self, batch: int, power: PowerPlan | None) -> None:
        """Latency of all that go on at one batch, and then their joules."""
        stage = f"latency, batch {batch}"
        for name in self.crew.names:
            size = self.artefacts[name].input_size
            self.crew.ask(name, stage, {"do": "ready", "batch": batch, "size": size, "seed": self.plan.seed})
        taken = self._taken(stage)
        self.turns[batch] = taken.turn
        self.samples |= {(name, batch): samples for name, samples in taken.samples.items()}
        if power is not None:
            self._measure_energy(batch, power)

    def _taken(self, stage: str) -> Taken:
        return take_turns(
            self.crew,
            self.crew.names,
            stage,
            rounds=self.plan.rounds,
            seed=self.plan.seed,
            warm_up=self.plan.warm_up,
            listener=self.listener,
        )

    def _measure_energy(self, batch: int, power: PowerPlan) -> None:
        names, stage = self.crew.names, f"energy, batch {batch}"
        for done, name in enumerate(names):
            self.listener(Advance(stage, done, len(names)))
            used = energy_of(self.crew, name, batch, power)
            if used is not None:
                self.energy[name, batch] = used
        self.listener(Advance(stage, len(names), len(names)))

    def ask_memory(self) -> None:
        """Peaks, before accuracy asks for other batches."""
        for name in self.crew.names:
            if (answer := self.crew.ask(name, "memory", {"do": "memory"})) is not None:
                self.memory[name] = MemoryUse(**self.floors[name], **answer)

    def classify(self, images: Mapping[str, LabelledImages]) -> None:
        """Accuracy of every artefact whose images are known."""
        for name in self.crew.names:
            artefact = self.artefacts[name]
            given = images.get(artefact.task or "")
            if given is None or artefact.preprocessing is None:
                continue
            right = count_right(self.crew, name, given.decoded, artefact.preprocessing, listener=self.listener)
            if right is not None:
                self.accuracy[name] = MeasuredAccuracy(given.split, len(given.decoded.images), right)

    def ratio(self, name: str, batch: int) -> RatioTo | None:
        """To the first artefact that has samples of this batch."""
        reference = next((one for one in self.artefacts if (one, batch) in self.samples), name)
        if reference == name:
            return None
        return RatioTo(
            reference,
            ratio_of_medians(
                self.samples[name, batch].latency_ns,
                self.samples[reference, batch].latency_ns,
                seed=self.plan.seed,
                block=self.turns[batch].samples,
            ),
        )


def _result(artefact: Artefact, session: _Session, preparation: Preparation | None) -> MeasuredArtefact:
    name, plan = artefact.name, session.plan
    works = _works(artefact, plan, session.listener)
    return MeasuredArtefact(
        name=name,
        kind=artefact.kind,
        backend=artefact.backend.value,
        task=artefact.task,
        precision=artefact.precision,
        strategy=artefact.strategy,
        files=file_sizes(artefact.files),
        neurons=artefact.neurons,
        gflops=works[1].flops / GIGA if 1 in works else None,
        stored_accuracy=artefact.stored_accuracy,
        accuracy=session.accuracy.get(name),
        preprocessing=preparation,
        memory=session.memory.get(name),
        failure=session.crew.failures.get(name),
        measurements=tuple(
            Measurement(
                batch=batch,
                samples=session.samples[name, batch],
                ratio=session.ratio(name, batch),
                energy=session.energy.get((name, batch)),
                estimate=_estimate(works.get(batch), plan.device, artefact.precision),
            )
            for batch in plan.batches
            if (name, batch) in session.samples
        ),
    )


def _works(artefact: Artefact, plan: Plan, listener: Listener) -> dict[int, Work]:
    """Work by batch: of one image, and of all batches where an estimate wants them."""
    batches = {1, *plan.batches} if plan.device is not None else {1}
    if artefact.graph is None:
        return {}
    try:
        return {batch: work_of(artefact.graph, batch) for batch in batches}
    except ArtifactError as error:
        listener(Note(f"Operations of {artefact.name} cannot be counted: {error}"))
        return {}


def _estimate(work: Work | None, device: Device | None, precision: str) -> Estimate | None:
    if work is None or device is None or why_not(device, precision) is not None:
        return None
    return estimate(device, work, precision)


def _with_marks(
    environment: Environment,
    states: tuple[BoardState, BoardState],
    artefacts: Sequence[Artefact],
    results: Sequence[MeasuredArtefact],
) -> Environment:
    """The environment with what made this measurement doubtful."""
    held_back = throttled_between(*states)
    batches = sorted({measured.batch for one in results for measured in one.measurements})
    unsettled = [
        f"{one.name}, batch {measured.batch}"
        for one in results
        for measured in one.measurements
        if not measured.samples.settled
    ]
    marks = [mark for mark in environment.marks if not mark.startswith("Held back")]
    marks += [
        f"{one.name} takes {least} to {most} images: batch {batch} was filled up, or went through in parts."
        for one in artefacts
        if one.batches is not None
        for least, most in [one.batches]
        for batch in batches
        if not least <= batch <= most
    ]
    marks += [f"Held back meanwhile: {reason}." for reason in held_back]
    marks += [f"Not settled when the warm-up ended: {'; '.join(unsettled)}."] if unsettled else []
    return replace(environment, marks=tuple(marks))


def _method(plan: Plan, turns: Mapping[int, Turn]) -> dict[str, Any]:
    return {
        "processes": "one for each artefact",
        "timed": "images in host memory to outputs in host memory",
        "rounds": plan.rounds,
        "warm_up": asdict(plan.warm_up),
        "turns": {str(batch): asdict(turn) for batch, turn in turns.items()},
    }

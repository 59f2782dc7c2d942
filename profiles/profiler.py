"""The profiler: artefacts, each in processes of its own, in turns; what fails is told, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.board.find_board import Board, BoardState, find_board, throttled_between
from mimi_edge.profiles.devices.roofline import estimate, why_not
from mimi_edge.profiles.devices.work import Work, work_of
from mimi_edge.profiles.energy import power_meter, rested
from mimi_edge.profiles.environment import Environment, current_environment
from mimi_edge.profiles.plan import Plan
from mimi_edge.profiles.preparation import preparation_of_made_up, preparation_of_split
from mimi_edge.profiles.processes import Crew
from mimi_edge.profiles.reports import SOME_EACH, MeasuredArtefact, Measurement, Preparation, Report
from mimi_edge.profiles.runtimes.artefact import Artefact, Wanted, file_sizes
from mimi_edge.profiles.runtimes.find import artefacts_of
from mimi_edge.profiles.runtimes.protocol import measured_runtime
from mimi_edge.profiles.session import Session
from mimi_edge.profiles.storage import PackageStorage, package_storage
from mimi_edge.profiles.teams import open_teams
from mimi_edge.runtimes import PROVIDERS

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package, Packages
    from mimi_edge.images.decode import LabelledImages
    from mimi_edge.profiles.devices.device import Device
    from mimi_edge.profiles.devices.roofline import Estimate
    from mimi_edge.training.run_folders import Run

GIGA = 1e9
KNOWN = ("name", "kind", "backbone", "origin", "task", "precision", "strategy", "neurons", "stored_accuracy")
"""What a report says of an artefact as it was found."""


def profile_sources(
    sources: Sequence[Path],
    wanted: Wanted | None = None,
    plan: Plan | None = None,
    images: Mapping[str, LabelledImages] | None = None,
    *,
    runs: Sequence[Path | Run] = (),
    data: str | None = None,
) -> Report:
    """Finds what sources hold, and measures it; what they are or lie in is opened once and stays as it is meanwhile.

    Args:
        sources: packages, task files, graphs and engines.
        wanted: backend, tasks and so on; ONNX Runtime on the CPU by default.
        plan: how to measure.
        images: by task, for the accuracy of its artefacts.
        runs: that made tasks, or their folders: their test splits give the accuracy.
        data: where the images of the one task are, without a run.

    Raises:
        ArtifactError: a source is damaged.
        ConfigError: what is asked makes no sense.
        MimiEdgeError: the backend is not installed, or there is no power meter.
    """
    from mimi_edge.export.given import opened_runs
    from mimi_edge.export.open_packages import undisturbed
    from mimi_edge.profiles.accuracy_images import labelled_images, weights_of

    wanted = wanted or Wanted()
    measured_runtime(wanted.backend).check(wanted)
    given = opened_runs(runs)
    if wanted.weights is None and wanted.backend is Backend.TORCH:
        wanted = replace(wanted, weights=weights_of(given))
    with undisturbed(sources) as packages:
        artefacts = artefacts_of(sources, wanted, packages)
        known = images or labelled_images(artefacts, given, data, wanted.listener)
        package = _only_package(sources, packages)
        storage = None if package is None else package_storage(package)
        measured = profile(artefacts, plan, known, storage=storage, threads=wanted.threads, listener=wanted.listener)
        return with_ledger(measured, package, wanted.listener)


def with_ledger(report: Report, package: Package | None, listener: Listener = silent) -> Report:
    """The report with what many tasks like those of its package would take, where there is one.

    What was measured is worth more than the ledger: if that cannot be made any more, the listener hears why.
    """
    from mimi_edge.profiles.fleet import fleet_ledger, measured_memory
    from mimi_edge.profiles.ledger import ledger_document

    try:
        if package is None or not package.tasks:
            return report
        return replace(report, ledger=ledger_document(fleet_ledger(package, measured=measured_memory(report))))
    except (MimiEdgeError, OSError) as error:
        listener(Note(f"There is no ledger of many tasks in the report: {error}"))
        return report


def _only_package(sources: Sequence[Path], packages: Packages) -> Package | None:
    """The package, where one package is among the sources."""
    folders = [source for source in sources if source.is_dir()]
    return packages.at(folders[0]) if len(folders) == 1 else None


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
        session = _opened(crew, {one.name: one for one in artefacts}, plan, listener)
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
        method=_method(session),
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


def _opened(crew: Crew, artefacts: Mapping[str, Artefact], plan: Plan, listener: Listener) -> Session:
    opened = open_teams(
        crew,
        artefacts,
        wanted=plan.useful_processes,
        batch=max(plan.batches),
        start=plan.command,
        listener=listener,
    )
    return Session(crew, artefacts, plan, listener, opened)


def _result(artefact: Artefact, session: Session, preparation: Preparation | None) -> MeasuredArtefact:
    name, plan = artefact.name, session.plan
    works = _works(artefact, plan, session.listener)
    return MeasuredArtefact(
        **{entry: getattr(artefact, entry) for entry in KNOWN},
        backend=artefact.backend.value,
        files=file_sizes(artefact.files),
        gflops=works[1].flops / GIGA if 1 in works else None,
        accuracy=session.accuracy.get(name),
        preprocessing=preparation,
        memory=session.memory.get(name),
        failure=session.failure(name),
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
    from mimi_edge.export.engines.shelf.sidecars import unproved_note

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
    marks += [unproved_note(one.name, one.unproved) for one in artefacts if one.unproved is not None]
    marks += [f"Held back meanwhile: {reason}." for reason in held_back]
    marks += [f"Not settled when the warm-up ended: {'; '.join(unsettled)}."] if unsettled else []
    return replace(environment, marks=tuple(marks))


def _method(session: Session) -> dict[str, Any]:
    plan, opened = session.plan, session.opened
    return {
        "processes": SOME_EACH,
        "processes_each": opened.processes,
        "why_fewer_processes": opened.why_fewer,
        "timed": "images in host memory to outputs in host memory",
        "rounds": plan.rounds,
        "warm_up": asdict(plan.warm_up),
        "turns": {str(batch): asdict(turn) for batch, turn in session.turns.items()},
    }

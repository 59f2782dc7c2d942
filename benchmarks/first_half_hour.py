"""Everything that a GPU has to tell about mimi-edge, in the time that there is one: `make gpu`.

Stages run one after the other, each in a process of its own, and each ends with one line of JSON, written at once, so
that a run that is cut off still tells. A stage whose time is no longer there is left out and says so; one that fails
says why, and the next one begins.

    python benchmarks/first_half_hour.py --minutes 25 --out gpu.jsonl

No installation is needed: a bare machine with Python 3.10 or newer, torch, timm, onnx, onnxruntime and onnxscript will
do. What else it lacks (TensorRT's Python module, pytest, msgspec, ...) may lie in folders named by --libraries; the
folders of TensorRT's own libraries belong into LD_LIBRARY_PATH.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("export", "profiles", "cli")
LEAST_SECONDS = 20.0
"""With less left, no stage is begun."""
TAIL_CHARACTERS = 2000
BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "ViT-S": "vit_small_patch16_224"}
DONE, FAILED, LEFT_OUT = "done", "failed", "left out"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Course:
    """What every stage has at hand.

    Attributes:
        backbones: timm's names by what tables call them.
        rounds: samples of each time that is taken.
        batch: images of a training step.
        device: that torch trains on.
        folder: to work in; what one stage leaves there, later ones find.
        seed: of weights and images.
    """

    backbones: Mapping[str, str] = field(default_factory=lambda: dict(BACKBONES))
    rounds: int = 100
    batch: int = 64
    device: str = "cuda"
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "mimi-edge-gpu")
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """One thing to find out.

    Attributes:
        name: of it.
        minutes: that it may take; less where less is left.
        find: does it, and gives what JSON can hold.
    """

    name: str
    minutes: float
    find: Callable[[Course], Result]


# What a process needs to find mimi-edge without an installation.


def checkout_as_installed(folder: Path) -> Path:
    """A folder to import from: the four rooms of this checkout, laid out as an installation has them."""
    package = folder / "mimi_edge"
    package.mkdir(parents=True, exist_ok=True)
    wanted = [*(REPOSITORY / "mimi_edge").iterdir(), *(REPOSITORY / room for room in ROOMS)]
    for path in wanted:
        link = package / path.name
        if path.name != "__pycache__" and not link.exists():
            link.symlink_to(path)
    return folder


def environment(course: Course, libraries: Sequence[Path]) -> dict[str, str]:
    """Of the processes that stages run in."""
    places = [checkout_as_installed(course.folder / "import"), REPOSITORY / "benchmarks", *libraries]
    known = os.environ.get("PYTHONPATH")
    paths = [str(place) for place in places] + ([known] if known else [])
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def said_by(command: Sequence[str], seconds: float | None = None) -> dict[str, Any]:
    """Exit code and last words of a program."""
    try:
        ended = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=seconds, check=False, cwd=REPOSITORY
        )
    except subprocess.TimeoutExpired as late:
        return {"exit_code": None, "said": f"ended after {late.timeout:.0f} s"}
    return {"exit_code": ended.returncode, "said": (ended.stdout + ended.stderr)[-TAIL_CHARACTERS:]}


# Stages.


def what_is_here(_course: Course) -> Result:
    """Device, driver, CUDA, and the TensorRT that is found."""
    from dataclasses import asdict

    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.running.cuda_library import why_no_driver
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings
    from mimi_edge.profiles.environment import current_environment

    bindings, device = load_bindings(), open_cuda().device
    return {
        "driver": why_no_driver() or "works",
        "device": asdict(device),
        "tensorrt": bindings.name,
        "builder": bindings.builder() is not None,
        "runtime": bindings.runtime() is not None,
        "packages": dict(current_environment().packages),
    }


def without_a_gpu(_course: Course) -> Result:
    """What is said where the GPU is hidden; the process must end by itself, and with a sentence."""
    hidden = (
        "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; from mimi_edge.export.engines.tensorrt.bindings import *; "
    )
    found = said_by(["-c", f"{hidden}load_bindings().builder()"])
    last = found["said"].strip().splitlines()[-1:]
    return {"ended_by_itself": found["exit_code"] == 1, "exit_code": found["exit_code"], "said": last}


def marked_tests(course: Course) -> Result:
    """The tests that need a GPU or TensorRT."""
    imported = course.folder / "import"
    command = ["-m", "pytest", "-q", "-m", "gpu or trt", "-o", f"pythonpath={imported}", "-p", "no:cacheprovider"]
    return said_by(command)


def precisions(course: Course) -> Result:
    """How far off each precision is, with Softmax in fp32 and in half precision; attention kernels; times."""
    from engines_by_precision import compared_precisions

    return {
        label: compared_precisions(name, course.folder, rounds=course.rounds, seed=course.seed)
        for label, name in course.backbones.items()
    }


def strategies(course: Course) -> Result:
    """Engines of tasks with different classes by every strategy, exported as users do: proofs, switches, bytes."""
    from engines_by_precision import exported_strategies

    return {
        label: exported_strategies(name, course.folder, seed=course.seed) for label, name in course.backbones.items()
    }


def int8(course: Course) -> Result:
    """A short training of the demonstration, and what INT8 makes of it."""
    from engines_by_precision import int8_verdict_of_the_demonstration

    return int8_verdict_of_the_demonstration(course.folder)


def passes(course: Course) -> Result:
    """Each graph pass, with and without; among them, neurons in eights."""
    return _tables("passes", ["--backend", "trt", "--loads", "1"], course)


def engines(course: Course) -> Result:
    """Times, switches, bytes and builds of engines, without peers."""
    return _tables("engines", ["--no-peers"], course)


def peers(course: Course) -> Result:
    """The same beside trtexec's way, torch.compile and ONNX Runtime's CUDA provider."""
    return _tables("engines", ["--batches", "1"], course)


def training(course: Course) -> Result:
    """Images a second of a training step on the GPU, against the plain loop."""
    return printed_by("training_step", ["--device", course.device, "--batch", str(course.batch)], course)


def _tables(script: str, options: Sequence[str], course: Course) -> Result:
    chosen = [part for label in course.backbones for part in ("--backbone", label)]
    return printed_by(script, [*options, *chosen], course)


def printed_by(script: str, options: Sequence[str], course: Course) -> Result:
    """What one of the benchmarks beside this file prints, run in this process."""
    arguments = [f"{script}.py", *options, "--rounds", str(course.rounds), "--seed", str(course.seed)]
    before, sys.argv = sys.argv, arguments
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            import_module(script).main()
    finally:
        sys.argv = before
    return {"command": " ".join(arguments), "printed": printed.getvalue()}


STAGES = (
    Stage("what is here", 1, what_is_here),
    Stage("without a GPU", 1, without_a_gpu),
    Stage("tests", 6, marked_tests),
    Stage("precisions", 4, precisions),
    Stage("strategies", 4, strategies),
    Stage("int8", 3, int8),
    Stage("engines", 4, engines),
    Stage("passes", 4, passes),
    Stage("training", 2, training),
    Stage("engines and peers", 5, peers),
)
"""What matters most comes first: the last ones are what a run that is cut off lacks."""


# The course.


def run_apart(stage: Stage, course: Course, seconds: float, libraries: Sequence[Path]) -> Result:
    """A stage in a process of its own; what it prints last is its result.

    Raises:
        RuntimeError: it failed, or was ended after its time; the message has its last words.
    """
    command = [sys.executable, __file__, "--stage", stage.name, "--folder", str(course.folder)]
    command += ["--rounds", str(course.rounds), "--seed", str(course.seed)]
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment(course, libraries)
        )
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RuntimeError(f"ended after {seconds:.0f} s") from None
        words.seek(0)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {words.read()[-TAIL_CHARACTERS:]}")
    result: Result = json.loads(printed.strip().splitlines()[-1])
    return result


def lines_of(
    course: Course,
    minutes: float,
    run: Callable[[Stage, Course, float], Result],
    *,
    stages: Sequence[Stage] = STAGES,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """What each stage found, as soon as it is there.

    Args:
        course: for the stages.
        minutes: for all of them together.
        run: does a stage within some seconds.
        stages: in their order.
        clock: in seconds.
    """
    end = clock() + 60 * minutes
    for stage in stages:
        begun = clock()
        seconds = min(60 * stage.minutes, end - begun)
        line: dict[str, Any] = {"stage": stage.name, "at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        if seconds < LEAST_SECONDS:
            yield line | {"status": LEFT_OUT, "why": f"{end - begun:.0f} s were left"}
            continue
        try:
            found = {"status": DONE, "found": run(stage, course, seconds)}
        except Exception as error:  # noqa: BLE001  whatever it is, it is written down, and the next stage begins
            found = {"status": FAILED, "why": f"{type(error).__name__}: {error}"[-TAIL_CHARACTERS:]}
        yield line | found | {"seconds": round(clock() - begun, 1)}


def write_lines(lines: Iterator[Mapping[str, Any]], out: Path) -> int:
    """Appends each line to a file, and prints it, before the next stage begins; gives the number of failed stages."""
    failed = 0
    with out.open("a", encoding="utf-8") as opened:
        for line in lines:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)
            opened.write(text + "\n")
            opened.flush()
            os.fsync(opened.fileno())
            print(text, flush=True)
            failed += line["status"] == FAILED
    return failed


def main() -> int:
    """Runs the course, or one stage of it."""
    options = read_options()
    course = Course(rounds=options.rounds, folder=options.folder, seed=options.seed)
    course.folder.mkdir(parents=True, exist_ok=True)
    if options.stage is not None:
        stage = next(one for one in STAGES if one.name == options.stage)
        print(json.dumps(stage.find(course), allow_nan=False, default=str))
        return 0
    chosen = [stage for stage in STAGES if not options.only or stage.name in options.only]
    lines = lines_of(
        course,
        options.minutes,
        lambda stage, where, seconds: run_apart(stage, where, seconds, options.libraries),
        stages=chosen,
    )
    return 1 if write_lines(lines, options.out) else 0


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [stage.name for stage in STAGES]
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=25, help="for everything together (default %(default)s)")
    made.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="gets a line a stage (default %(default)s)")
    made.add_argument("--only", choices=names, action="append", help="this stage; may be repeated")
    made.add_argument("--rounds", type=int, default=100, help="samples of each time (default %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of weights and images (default %(default)s)")
    made.add_argument("--folder", type=Path, default=Course().folder, help="to work in (default %(default)s)")
    made.add_argument("--libraries", type=Path, action="append", default=[], help="a folder of Python modules")
    made.add_argument("--stage", choices=names, help=argparse.SUPPRESS)
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""`mimi-edge predict`: classify images with a package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.choices import Backend
from mimi_edge.cli.options import AsJson, Tasks, Threads
from mimi_edge.cli.output import document_or, explained, fail, say, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.cli.answer_files import AnswerFile
    from mimi_edge.export.prediction import Prediction

TOP = 5
SHOWN_TOP = 3
"""Classes in a table, unless it is said how many."""
MOST_TOLD = 20


@explained
def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE IMAGES",
            help="First a package, a folder of adapters, a merged .onnx graph, a run folder or a task file; by default "
            "the package package/, else the newest finished run. Then images: files, folders with all below, quoted "
            "patterns such as 'photos/**/*.jpg', @LIST for a file of paths, - for paths on stdin.",
            show_default=False,
        ),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="FILE", help="A file with a path of an image a line; - is stdin. May be repeated."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write answers to this .csv or .jsonl file as they come, instead of a table at the end.",
            show_default=False,
        ),
    ] = None,
    task: Tasks = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the most probable classes to name.", show_default="3; in files 5"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through at once.")] = 16,
    backend: Annotated[
        Backend | None,
        typer.Option(
            help="What computes the answers; trt and trt-rtx use the package's engines.",
            show_default="ort-cpu; torch for a run or a task file",
        ),
    ] = None,
    engine: Annotated[
        Path | None, typer.Option(help="An engine for the package's tasks, from elsewhere.", show_default=False)
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Use that engine although no package vouches for it: engines are code.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Classify images. Those that cannot be used are named at the end, with exit code 1; the others go on."""
    from mimi_edge.cli.answer_files import check_answer_file
    from mimi_edge.cli.image_lists import named_images
    from mimi_edge.export.prediction import predictions
    from mimi_edge.export.serving.find import serving

    if output is not None:
        check_answer_file(output)
    source, named = _source_and_images(arguments or [], lists or [])
    images = named_images(named, lists or [])
    source = source or _default_source()
    with watching() as listener:
        found = serving(
            source, task or None, backend=backend, engine=engine, trust=trust, threads=threads, listener=listener
        )
        with _heard(output, top or TOP) as heard:
            for one in predictions(found, images, batch=batch, top=top or TOP, on_bad=heard.failure, listener=listener):
                heard.answer(one)
    document_or(as_json, heard.document(), lambda: _show(heard, top or SHOWN_TOP))
    _end(heard, len(images))


def _source_and_images(arguments: Sequence[str], lists: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """What answers, None where it was not said, and what it is asked about.

    Raises:
        ConfigError: the first argument is neither, or nothing is asked about.
    """
    from mimi_edge.cli.image_lists import WAYS, names_images
    from mimi_edge.errors import ConfigError
    from mimi_edge.images.formats import is_image_name

    if not arguments or (not _is_source(Path(arguments[0])) and names_images(arguments[0])):
        return None, arguments
    first, rest = Path(arguments[0]), arguments[1:]
    if not first.exists():
        if is_image_name(first.name):
            return None, arguments
        raise ConfigError(
            f"{first} is not there. Expected a package, a folder of adapters, a graph, a run folder or a task file, "
            f"and then images; or only images: {WAYS}."
        )
    if not rest and not lists:
        raise ConfigError(f"Which images shall {first} look at? Give {WAYS}.")
    return first, rest


def _is_source(path: Path) -> bool:
    from mimi_edge.cli.defaults import TASK_SUFFIX, is_package, is_run
    from mimi_edge.export.ort_adapters import MANIFEST
    from mimi_edge.export.serving.find import ARCHIVE_SUFFIX

    if path.is_dir():
        return is_package(path) or is_run(path) or (path / MANIFEST).is_file()
    return path.suffix in (".onnx", TASK_SUFFIX, ARCHIVE_SUFFIX) and path.exists()


def _default_source() -> Path:
    """The package that is here, else the run that was finished last.

    Raises:
        ConfigError: there is neither; the message says what to run first.
    """
    from mimi_edge.cli.defaults import PACKAGE, default_package, is_package, newest_run, runs_in

    if not is_package(PACKAGE) and any(run.is_finished for run in runs_in()):
        return newest_run()
    return default_package()


@dataclass
class _Heard:
    """Answers as they come: on their way to a file, or kept for the end.

    Attributes:
        file: where they go; None keeps them.
        kept: those that were kept.
        failures: why an image has no answer, by its path, of each task that has none.
        answers: how many there are.
    """

    file: AnswerFile | None
    kept: list[Prediction] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    answers: int = 0

    def answer(self, one: Prediction) -> None:
        self.answers += 1
        if self.file is None:
            self.kept.append(one)
        else:
            self.file.answer(one)

    def failure(self, path: Path, error: MimiEdgeError) -> None:
        from mimi_edge.images.read_image import shown

        reason = str(getattr(error, "reason", error))
        before = self.failures.get(shown(path))
        self.failures[shown(path)] = reason if before is None else f"{before}; {reason}"
        if self.file is not None:
            self.file.failure(path, reason)

    def document(self) -> dict[str, Any]:
        if self.file is not None:
            return {"output": str(self.file.path), "answers": self.answers, "unusable": self.failures}
        return {
            "predictions": [asdict(one) | {"path": str(one.path)} for one in self.kept],
            "unusable": self.failures,
        }


@contextmanager
def _heard(output: Path | None, top: int) -> Iterator[_Heard]:
    """Where answers go; an interruption says what is in the file already."""
    if output is None:
        yield _Heard(None)
        return
    from mimi_edge.cli.answer_files import answer_file

    with answer_file(output, top) as file:
        try:
            yield _Heard(file)
        except BaseException:
            say(f"{file.lines:,} lines are in {output}.")
            raise


def _show(heard: _Heard, top: int) -> None:
    if heard.file is not None:
        say(f"{heard.answers:,} answers: {heard.file.path}")
        return
    rows = [
        (str(one.path), one.task, one.label, f"{one.probability:.1%}", _runners_up(one.top[1:top]))
        for one in heard.kept
    ]
    if not rows:
        return  # `_end` says why
    columns = ("image", "task", "class", "probability", "then")
    show_table(
        Table.of("Predictions", columns if top > 1 else columns[:-1], rows if top > 1 else [row[:-1] for row in rows])
    )


def _runners_up(top: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{label} {probability:.1%}" for label, probability in top)


def _end(heard: _Heard, images: int) -> None:
    """With exit code 1 where an image has no answer."""
    if not heard.failures:
        return
    for path, reason in list(heard.failures.items())[:MOST_TOLD]:
        say(f"Left out {path}: {reason}")
    if (more := len(heard.failures) - MOST_TOLD) > 0:
        say(f"And {more:,} more" + (f", all in {heard.file.path}." if heard.file is not None else ", all with --json."))
    fail(f"{len(heard.failures):,} of {images:,} images could not be used.", MimiEdgeError.exit_code)

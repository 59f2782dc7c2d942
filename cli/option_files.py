"""`--config FILE`: the options of a command out of a YAML or TOML file; those on the command line go before it.

A command's own options are what may stand in its file: names, kinds and limits are taken from its parameters. What is
wrong with a file is told together with what is wrong with the options as a whole, each with its place.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from mimi_edge.documents import FaultyError, read_bytes, toml_value, typed, yaml_value
from mimi_edge.errors import ConfigError
from mimi_edge.texts import LONGEST_EXCERPT, cut, excerpt, fault_list, safe_line
from mimi_edge.training.asked_config import faults_said
from mimi_edge.training.option_values import RENAMED

CONFIG, LIST = "config", "A,B,..."
"""The option, and the metavar of options whose texts are lists."""
LARGEST_BYTES = 1_000_000
NOT_IN_FILES = frozenset({CONFIG, "resume", "json"})
"""Options that say what to do with a file or an answer, and not how."""
READERS = {".yaml": yaml_value, ".yml": yaml_value, ".toml": toml_value}
NUMBER = re.compile(r"[-+]?([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)([eE][-+]?[0-9]+)?")
ALIKE = 0.6


@dataclass(frozen=True)
class OptionFile:
    """What `--config` named.

    Attributes:
        path: of the file; None where there is none.
        values: of the parameters of the command that it gives and that the command line does not.
        lines: of the options in the file, by name, where they are known.
        faults: what is wrong with it.
    """

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Around whatever makes sense of the options: its faults are told with those of the file, each with its place.

        Raises:
            ConfigError: something is wrong with either.
        """
        found: list[str] = []
        try:
            yield
        except ConfigError as error:
            if self.path is None:
                raise
            found = [self._placed(fault) for fault in faults_said(error)]
        if self.faults or found:
            where = "" if self.path is None else f" with --config {safe_line(self.path)}"
            raise ConfigError(f"These options do not make sense{where}:\n{fault_list((*self.faults, *found))}")

    def _placed(self, fault: str) -> str:
        """A fault of an option with the line that it is from, if it is from the file."""
        option = re.match(r"--([a-z0-9-]+)", fault)
        name = option[1].replace("-", "_") if option is not None else ""
        if name not in self.values:
            return fault
        return f"{_place(name, self.lines)}: {fault}"


def takes_option_file(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command `--config`; it receives what was found as `file: OptionFile`, its other options as always."""
    own = dict(inspect.signature(command, eval_str=True).parameters)
    own.pop("file")
    config = Annotated[
        Path | None,
        typer.Option(
            f"--{CONFIG}", help="A YAML or TOML file of options, by their names; those given here go before it."
        ),
    ]

    @wraps(command)
    def taking(**values: Any) -> None:
        context, path = values.pop("ctx"), values.pop(CONFIG)
        open_ones = {name for name in own if context.get_parameter_source(name).name.startswith("DEFAULT")}
        file = OptionFile() if path is None else read_option_file(path, own, open_ones)
        command(**{**values, **file.values}, file=file)

    def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own.values()]
    parameters = [context, *keywords, option(CONFIG, config, None)]
    taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del taking.__wrapped__
    return taking


def read_option_file(path: Path, parameters: Mapping[str, inspect.Parameter], wanted: set[str]) -> OptionFile:
    """Reads a file of options; what is wrong with it is kept for later, not raised.

    Args:
        path: of the file.
        parameters: of the command, by name.
        wanted: those that the command line did not give.
    """
    try:
        text, document = _read(path)
    except (FaultyError, OSError) as error:
        said = error.faults if isinstance(error, FaultyError) else (f"it cannot be read ({error.strerror})",)
        return OptionFile(path, faults=said)
    options = {_option_name(name, one): name for name, one in parameters.items()}
    values, faults, seen = dict[str, Any](), list[str](), set[str]()
    lines = _lines(text, document)
    for written, value in document.items():
        name, place = _plain(written), _place(written, lines)
        try:
            parameter = _known(name, options, seen)
            values[parameter] = _value(value, parameters[parameter])
        except FaultyError as error:
            faults += [f"{place}: {fault}" for fault in error.faults]
    given = {name: value for name, value in values.items() if name in wanted}
    by_parameter = {options[_plain(name)]: line for name, line in lines.items() if _plain(name) in options}
    return OptionFile(path, given, by_parameter, tuple(faults))


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise FaultyError(f"expected a file whose name ends with {', '.join(READERS)}, got {excerpt(path.name)}")
    content = read_bytes(path, LARGEST_BYTES)
    document = {} if not content.strip() else reader(content)
    if document is None:  # nothing but comments
        document = {}
    if not isinstance(document, dict):
        raise FaultyError(f"expected options and their values, such as epochs: 12; got {excerpt(document)}")
    return content.decode("utf-8"), {str(name): value for name, value in document.items()}


def _known(name: str, options: Mapping[str, str], seen: set[str]) -> str:
    """The parameter behind a name.

    Raises:
        FaultyError: there is none, it may not stand in a file, or it stands there twice.
    """
    if name in NOT_IN_FILES:
        raise FaultyError(f"--{name} belongs on the command line")
    if name not in options:
        close = difflib.get_close_matches(name, options.keys() - NOT_IN_FILES, n=1, cutoff=ALIKE)
        close = [RENAMED[field] for field in (name.replace("-", "_"),) if field in RENAMED] or close
        raise FaultyError(f"there is no such option{f'; did you mean {close[0]}?' if close else ''}")
    if name in seen:
        raise FaultyError(f"{name} is given twice, with a dash and with an underscore")
    seen.add(name)
    return options[name]


def _value(value: Any, parameter: inspect.Parameter) -> Any:
    """A value for a parameter, of its kind and within its limits.

    Raises:
        FaultyError: it is another kind, or beyond a limit.
    """
    hint, info = _hint_of(parameter)
    if info.metavar == LIST and value is not None:
        return ",".join(map(str, typed(value if isinstance(value, list) else [value], tuple[int | float | str, ...])))
    if value is None and parameter.default is None:
        return None
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if str in kinds and isinstance(value, bool | int | float):
        raise FaultyError(f"expected a text, got {excerpt(value)}; put it in quotes")
    if isinstance(value, str) and "\0" in value:
        raise FaultyError("it holds a zero byte, which no name and no path may have")
    found = typed(_as_number(value, kinds), _without_paths(hint))
    if isinstance(found, int | float) and not _within(found, info.min, info.max):
        limits = [f"at least {info.min}"] * (info.min is not None) + [f"at most {info.max}"] * (info.max is not None)
        raise FaultyError(f"must be {' and '.join(limits)}, got {found}")
    return Path(found) if Path in kinds and found is not None else found


def _as_number(value: Any, kinds: Sequence[Any]) -> Any:
    """YAML takes 1e-3, and numbers of more than 18 digits, for texts; where a number is wanted they are none."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        if int in kinds and value.lstrip("+-").isdigit():
            return int(value) if len(value) < 30 else value
        return float(value) if float in kinds else value
    return value


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _hint_of(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """The kind of a parameter's value, and what Typer knows of it."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter.annotation, typer.Option()
    hint, info, *_ = get_args(parameter.annotation)
    return hint, info


def _without_paths(hint: Any) -> Any:
    """Paths are texts in a file."""
    if hint is Path:
        return str
    return str | None if Path in get_args(hint) else hint


def _option_name(name: str, parameter: inspect.Parameter) -> str:
    """What an option is called on the command line, without its dashes."""
    _, info = _hint_of(parameter)
    names = [said.partition("/")[0] for said in info.param_decls or () if said.startswith("--")]
    return (names[0] if names else name).removeprefix("--").replace("_", "-")


def _plain(name: str) -> str:
    return name.removeprefix("--").replace("_", "-")


def _place(name: str, lines: Mapping[str, int]) -> str:
    line = lines.get(name)
    return cut(safe_line(_plain(name)), LONGEST_EXCERPT) + (f" (line {line})" if line is not None else "")


def _lines(text: str, names: Iterable[str]) -> dict[str, int]:
    """The line in which each name begins, where that can be told without doubt."""
    found: dict[str, int] = {}
    for name in names:
        begins = re.compile(rf"""["']?{re.escape(name)}["']?\s*[:=]""")
        lines = [number for number, line in enumerate(text.splitlines(), 1) if begins.match(line)]
        found |= {name: lines[0]} if len(lines) == 1 else {}
    return found

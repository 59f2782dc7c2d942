"""The arrows between the rooms and where heavy libraries may be named; read off the sources, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOMS = {
    "mimi_edge.cli": "cli",
    "mimi_edge.export": "export",
    "mimi_edge.profiles": "profiles",
    "mimi_edge": "mimi_edge",
}
"""Import name and folder, the more particular name first."""

NEVER_IMPORTS = {
    "mimi_edge": {"mimi_edge.export", "mimi_edge.profiles", "mimi_edge.cli"},
    "mimi_edge.export": {"mimi_edge.profiles", "mimi_edge.cli"},
    "mimi_edge.profiles": {"mimi_edge.cli"},
    "mimi_edge.cli": set[str](),
}
DOORS = {Path("mimi_edge/__init__.py"), Path("mimi_edge/__main__.py")}
"""Where people come in, who need not know the rooms: `import mimi_edge` gives what lies in all of them, and loads each
only when it is asked for (test_architecture_startup); `python -m mimi_edge` is the command line."""
TORCH = {"torch", "torchvision", "timm"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}


@dataclass(frozen=True)
class Import:
    """One name that one line imports, as an absolute dotted name."""

    file: Path
    line: int
    name: str

    def reaches(self, module: str) -> bool:
        """Whether the name is `module` or something inside it."""
        return self.name == module or self.name.startswith(f"{module}.")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def _module_name(file: Path) -> str:
    """The dotted name under which a file of a room, relative to the repository, is imported."""
    room = next(name for name, folder in ROOMS.items() if file.parts[0] == folder)
    parts = [room, *file.with_suffix("").parts[1:]]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    """What `from X import` means by X, dots resolved."""
    if not node.level:
        return node.module or ""
    package = _module_name(file).split(".")
    upward = node.level - (file.name == "__init__.py")
    return ".".join([*package[: len(package) - upward], *filter(None, [node.module])])


def _names(node: ast.AST, file: Path) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(names=aliases):
            yield from (f"{_absolute(node, file)}.{alias.name}" for alias in aliases)
        case ast.Call(func=ast.Name(id="__import__" | "import_module"), args=[ast.Constant(value=str(name)), *_]):
            yield name
        case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            yield name


def imports_in(source: str, file: Path) -> list[Import]:
    """Every import at any depth, those inside functions and those by a literal name included."""
    return [
        Import(file, getattr(node, "lineno", 0), name)
        for node in ast.walk(ast.parse(source))
        for name in _names(node, file)
    ]


def _room_of(name: str) -> str | None:
    return next((room for room in ROOMS if name == room or name.startswith(f"{room}.")), None)


def upward(found: list[Import]) -> list[str]:
    """The imports that go against the arrows."""
    return [
        str(one)
        for one in found
        if one.file not in DOORS
        and any(one.reaches(room) for room in NEVER_IMPORTS[_room_of(_module_name(one.file)) or "mimi_edge"])
    ]


USE_TORCH = {Path("export/backbone_graph.py"), Path("mimi_edge/images/sources/torchvision_sets.py")}


def may_use_torch(file: Path) -> bool:
    """Training, the export of a backbone, and torchvision's data sets are the only places."""
    return file.parts[:2] == ("mimi_edge", "training") or file in USE_TORCH


def unpickling(source: str, file: Path) -> list[str]:
    """Lines that read, or could be made to read, a pickle."""
    tree = ast.parse(source)
    found = [str(one) for one in imports_in(source, file) if any(one.reaches(module) for module in UNPICKLERS)]
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                found.append(f"{file}:{node.lineno} uses torch.load")
            case ast.ImportFrom(module="torch", names=aliases) if any(alias.name == "load" for alias in aliases):
                found.append(f"{file}:{node.lineno} imports torch.load")
            case ast.keyword(arg="allow_pickle", value=value) if not _is_false(value):
                found.append(f"{file}:{value.lineno} allows pickles")
    return found


def json_that_may_be_invalid(source: str, file: Path) -> list[str]:
    """Lines that would write NaN or Infinity, which JSON does not have, where a value is not finite."""
    return [
        f"{file}:{node.lineno} writes JSON without allow_nan=False"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("dumps", "dump")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "json"
        and not any(keyword.arg == "allow_nan" and _is_false(keyword.value) for keyword in node.keywords)
    ]


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.fixture(scope="module")
def sources(repository: Path) -> dict[Path, str]:
    """The text of every module of the four rooms, by its path in the repository."""
    return {
        file.relative_to(repository): file.read_text("utf-8")
        for folder in ROOMS.values()
        for file in sorted((repository / folder).rglob("*.py"))
    }


@pytest.fixture(scope="module")
def found(sources: dict[Path, str]) -> list[Import]:
    return [one for file, source in sources.items() for one in imports_in(source, file)]


def test_every_room_was_read(sources: dict[Path, str], found: list[Import]) -> None:
    assert {file.parts[0] for file in sources} == set(ROOMS.values())
    assert any(one.reaches("mimi_edge.errors") for one in found)


def test_no_import_goes_upward(found: list[Import]) -> None:
    assert upward(found) == []


def test_torch_stays_in_training_and_in_the_export_of_a_backbone(found: list[Import]) -> None:
    astray = [
        str(one) for one in found if not may_use_torch(one.file) and any(one.reaches(library) for library in TORCH)
    ]
    assert astray == []


def test_click_is_never_imported(found: list[Import]) -> None:
    assert [str(one) for one in found if one.reaches("click")] == []


def test_nothing_unpickles(sources: dict[Path, str]) -> None:
    assert [line for file, source in sources.items() for line in unpickling(source, file)] == []


def test_all_json_is_json(sources: dict[Path, str]) -> None:
    """`mimi_edge.texts.json_text` writes what is not finite as null; whoever must not alter values refuses them."""
    assert [line for file, source in sources.items() for line in json_that_may_be_invalid(source, file)] == []


def test_json_that_may_be_invalid_is_seen() -> None:
    source = "json.dumps(x)\njson.dump(x, f, allow_nan=True)\njson.dumps(x, allow_nan=False)\njson.loads(t)"
    assert len(json_that_may_be_invalid(source, Path("cli/a.py"))) == 2


def test_people_come_in_by_two_doors_only() -> None:
    source = "from mimi_edge.cli.main import main"
    assert upward(imports_in(source, Path("mimi_edge/__main__.py"))) == []
    assert len(upward(imports_in(source, Path("mimi_edge/tasks/__init__.py")))) == 1


@pytest.mark.parametrize(
    ("file", "source", "name"),
    [
        ("mimi_edge/a.py", "def f():\n    import mimi_edge.cli.main", "mimi_edge.cli.main"),
        ("mimi_edge/a.py", "from mimi_edge import export", "mimi_edge.export"),
        ("mimi_edge/tasks/a.py", "from ..profiles import latency", "mimi_edge.profiles.latency"),
        ("mimi_edge/tasks/__init__.py", "from .. import cli", "mimi_edge.cli"),
        ("export/a.py", "from . import merge\nfrom .. import profiles", "mimi_edge.profiles"),
        ("export/passes/a.py", "if True:\n  from ...profiles.x import y", "mimi_edge.profiles.x.y"),
        ("profiles/a.py", "import importlib\nimportlib.import_module('mimi_edge.cli')", "mimi_edge.cli"),
    ],
)
def test_an_import_against_the_arrows_is_seen_however_it_is_written(file: str, source: str, name: str) -> None:
    assert [line.split()[-1] for line in upward(imports_in(source, Path(file)))] == [name]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "export/a.py",
            "import mimi_edge.exporting\nfrom mimi_edge.export import merge\nfrom mimi_edge.tasks import task",
        ),
        ("profiles/a.py", "from mimi_edge.export.merge import merge"),
        ("cli/a.py", "from mimi_edge.profiles import latency\nfrom . import output"),
    ],
)
def test_an_import_along_the_arrows_is_fine(file: str, source: str) -> None:
    assert upward(imports_in(source, Path(file))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "from torch import load",
        "def f():\n    from pickle import loads",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=trust)",
    ],
)
def test_unpickling_is_seen(source: str) -> None:
    assert len(unpickling(source, Path("mimi_edge/training/a.py"))) == 1


def test_a_load_that_refuses_pickles_is_fine() -> None:
    assert unpickling("np.load('x', allow_pickle=False)", Path("mimi_edge/a.py")) == []


def _modules_imported(found: list[Import], modules: set[str]) -> dict[str, set[str]]:
    """For each module the others that it imports anywhere: inside functions, and for type checkers alone, as well."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for one in found:
        importer = _module_name(one.file)
        names = (one.name, one.name.rpartition(".")[0])
        graph[importer] |= {next((name for name in names if name in modules), importer)} - {importer}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, each circle once."""
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # it is told from the imported to the importing
        smaller = {name: others - {circle[1]} if name == circle[0] else others for name, others in graph.items()}
        return [circle, *circles(smaller)]
    return []


def test_no_two_modules_need_each_other(sources: dict[Path, str], found: list[Import]) -> None:
    graph = _modules_imported(found, {_module_name(file) for file in sources})
    assert len(graph) > 200
    in_words = [" -> ".join(circle) for circle in circles(graph)]
    assert not in_words, "\n".join(in_words)


def test_a_circle_of_modules_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})

"""The one way to read a document: a regular file of bounded size and depth, typed by a schema, all faults together.

A document may come from anywhere. Whatever is in it, reading ends soon, takes no more memory than the file is worth,
and either gives a value of the type that was asked for or one error that says what is wrong with the document. Schemas
are our own frozen dataclasses; what they check when they are made is checked here too, and `typing.Annotated` with
msgspec's `Meta` says what one entry has to be, its `description` being what people are told was expected.

Behind it is msgspec, not pydantic: importing it takes 40 to 49 ms where pydantic takes 98 to 160 (three turns), which
every command pays, it turns nothing from one kind into another, and both run on a Jetson's Python 3.10. It tells one
fault at a time; here are all of them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints

from mimi_edge.errors import ArtifactError, MimiEdgeError
from mimi_edge.parts import upgrade_words
from mimi_edge.texts import cut, excerpt, fault_list, safe_line

T = TypeVar("T")

DEEPEST = 24
"""Levels of tables and lists inside each other; no document of ours has ten."""
LARGEST_INTEGER = 2**63

MOST_NAMES_TOLD = 20
"""Entries of a table that are named where one is not known."""
FROM_DOCUMENT = "from_document"
"""Class method of a type that reads its own entry; what it raises as ValueError is told as a fault."""

MOST_YAML_NODES = 20_000
LONGEST_YAML_SCALAR = 10_000
DEEPEST_YAML = 12
LONGEST_COMPLAINT = 300


@dataclass(frozen=True)
class DocumentKind:
    """What all documents of one kind have in common.

    Attributes:
        name: what people call one, with its article: "a package's manifest".
        largest_bytes: beyond this no such document is read.
        mend: sentence that says what to do about a damaged one.
        absent: sentence that says what to do where there is none; `mend` if empty.
        version_key: the entry that holds the version of the format; None where there is none.
        newest: version up to which this mimi-edge reads.
        open: whether entries that the schema does not know are passed over.
        follow_links: whether the file may be a symbolic link.
        error: of which kind errors are.
    """

    name: str
    largest_bytes: int
    mend: str
    absent: str = ""
    version_key: str | None = "schema"
    newest: int = 1
    open: bool = False
    follow_links: bool = True
    error: type[MimiEdgeError] = ArtifactError


class FaultyError(ValueError):
    """Content that cannot be read, or is not what a schema asks for.

    Attributes:
        faults: each in words, with the path to its entry.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_document(path: Path, kind: DocumentKind, schema: type[T]) -> T:
    """Reads a JSON document as a value of a type.

    Raises:
        MimiEdgeError: of the kind's own class; the file cannot be read, is no JSON, is of a newer version, or its
            entries are not what the schema asks for, with every such entry named.
    """
    return parse_document(document_bytes(path, kind), path, kind, schema)


def parse_document(content: bytes | str, where: object, kind: DocumentKind, schema: type[T]) -> T:
    """`read_document` for content that was read already, or that lies inside another file; `where` is for messages."""
    return typed_document(raw_document(content, where, kind), where, kind, schema)


def document_bytes(path: Path, kind: DocumentKind) -> bytes:
    """The content of a document's file.

    Raises:
        MimiEdgeError: of the kind's own class; it cannot be read, is no regular file, or is too large.
    """
    try:
        return read_bytes(path, kind.largest_bytes, follow_links=kind.follow_links)
    except OSError as error:
        advice = kind.absent or kind.mend
        raise kind.error(f"Cannot read {path} as {kind.name} ({error.strerror}). {advice}") from error


def raw_document(content: bytes | str, where: object, kind: DocumentKind) -> dict[str, Any]:
    """A JSON document's entries before any schema, its version included and known to be one that can be read.

    Raises:
        MimiEdgeError: of the kind's own class; it is no JSON table, or of a newer version.
    """
    try:
        document = json_value(content, largest_bytes=kind.largest_bytes)
        if not isinstance(document, dict):
            raise FaultyError(f"expected a table, got {excerpt(document)}")
        version = None if kind.version_key is None else _version(document, kind.version_key)
    except FaultyError as error:
        raise _refused(where, kind, error.faults) from error
    if version is not None and version > kind.newest:
        raise kind.error(
            f"{where} has {kind.version_key} {excerpt(version)}; this mimi-edge reads up to {kind.newest}. "
            f"{upgrade_words()}"
        )
    return document


def typed_document(document: Mapping[str, Any], where: object, kind: DocumentKind, schema: type[T]) -> T:
    """The entries of a document as a value of a type; the version is left out of it.

    Raises:
        MimiEdgeError: of the kind's own class; entries are not what the schema asks for.
    """
    entries = {name: value for name, value in document.items() if name != kind.version_key}
    try:
        return typed(entries, schema, unknown_entries=kind.open)
    except FaultyError as error:
        raise _refused(where, kind, error.faults) from error


def _refused(where: object, kind: DocumentKind, faults: tuple[str, ...]) -> MimiEdgeError:
    if len(faults) == 1 and "\n" not in faults[0]:
        return kind.error(f"{where} cannot be read as {kind.name}: {fault_list(faults).strip(' -')}. {kind.mend}")
    return kind.error(f"{where} cannot be read as {kind.name}:\n{fault_list(faults)}\n{kind.mend}")


def _version(document: Mapping[str, Any], key: str) -> int:
    version = document.get(key)
    if type(version) is not int or version < 1:
        raise FaultyError(f"{key}: expected a whole number from 1, got {excerpt(version)}")
    return version


# Files.


def read_bytes(path: Path, largest_bytes: int, *, follow_links: bool = True) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, is a folder, a pipe, a device or an unwanted link, or is larger than allowed, which
            is found out before anything is read. Its `strerror` says which.
    """
    with opened_regular(path, largest_bytes, follow_links=follow_links) as opened:
        content = opened.read(largest_bytes + 1)
    if len(content) > largest_bytes:
        raise _os_error(errno.EFBIG, f"it has more than {largest_bytes:,} bytes", path)
    return content


@contextmanager
def opened_regular(path: Path, largest_bytes: int | None = None, *, follow_links: bool = True) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; whatever else lies under the name is neither waited for nor read.

    Raises:
        OSError: as `read_bytes`.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise _os_error(errno.ELOOP, "it is a link", path) from error
        if error.errno == errno.ENXIO:
            raise _os_error(errno.ENXIO, "it is a socket or a device, no regular file", path) from error
        raise
    except ValueError as error:  # a name with a NUL in it
        raise _os_error(errno.EINVAL, str(error), path) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _os_error(errno.EINVAL, f"it is {_file_kind(found.st_mode)}, no regular file", path)
        if largest_bytes is not None and found.st_size > largest_bytes:
            said = f"it has {found.st_size:,} bytes; expected at most {largest_bytes:,}"
            raise _os_error(errno.EFBIG, said, path)
        opened = open(descriptor, "rb", closefd=False)  # noqa: SIM115  (the path could be another file by now)
        with opened:
            yield opened
    finally:
        os.close(descriptor)


def require_regular(path: Path, largest_bytes: int | None = None, *, follow_links: bool = True) -> int:
    """Gives the size in bytes of a file that a library is going to open by its name.

    Raises:
        OSError: as `read_bytes`.
    """
    with opened_regular(path, largest_bytes, follow_links=follow_links) as opened:
        return os.fstat(opened.fileno()).st_size


def _file_kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _os_error(number: int, reason: str, path: Path) -> OSError:
    return OSError(number, reason, str(path))


# Syntax.


def json_value(content: bytes | str, *, largest_bytes: int | None = None) -> Any:
    """What JSON says, as Python has it: strict UTF-8, nothing that is not finite, no depths, no endless integers.

    Raises:
        FaultyError: it is no such JSON.
    """
    import msgspec

    try:
        encoded = content.encode() if isinstance(content, str) else content
        if largest_bytes is not None and len(encoded) > largest_bytes:
            raise FaultyError(f"it has {len(encoded):,} bytes; expected at most {largest_bytes:,}")
        value = msgspec.json.decode(encoded)
    except RecursionError as error:
        raise FaultyError(f"it has more than {DEEPEST} levels of tables and lists") from error
    except UnicodeError as error:
        raise FaultyError(f"it is no text in UTF-8 ({error})") from error
    except msgspec.MsgspecError as error:
        raise FaultyError(f"it is no JSON ({safe_line(error)}{_near(encoded, str(error))})") from error
    _require_bounded(value)
    return value


def _near(content: bytes, said: str) -> str:
    """What stands at the byte that a parser names."""
    found = re.search(r"\(byte (\d+)\)", said)
    if found is None:
        return ""
    start = int(found[1])
    return f", at {excerpt(content[start : start + 20].decode('utf-8', 'replace'))}"


def _require_bounded(document: Any) -> None:
    """Level by level, so that no depth can end it."""
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > DEEPEST + 1:
            raise FaultyError(f"it has more than {DEEPEST} levels of tables and lists")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif type(value) is int and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
                raise FaultyError(f"it holds {excerpt(value)}; expected at most 64")
        level = below


def yaml_value(content: bytes) -> Any:
    """What YAML says, as tables, lists, texts, numbers, true, false and null.

    There are no aliases, tags or dates, and a table has each key once: plain YAML takes the last without a word.

    Raises:
        FaultyError: it is no such YAML; keys that are wrong are all named.
    """
    import yaml

    try:
        text = content.decode("utf-8")
        _require_plain(text)
        faults: list[str] = []
        value = yaml.load(text, _yaml_loader(faults))  # noqa: S506  (a SafeLoader that knows less)
    except UnicodeDecodeError as error:
        raise FaultyError(f"it is no text in UTF-8 ({error.reason})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, FaultyError):
            raise
        raise FaultyError(f"it is no YAML: {_yaml_complaint(error)}") from error
    if faults:
        raise FaultyError(*faults)
    return value


def _yaml_complaint(error: Exception) -> str:
    """What is wrong and in which line, without the piece of the file that the parser shows."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return f"{_complaint(problem)} (line {mark.line + 1})" if problem and mark else _complaint(error)


def _complaint(said: object) -> str:
    """What a parser says, in a line."""
    return cut(safe_line(" ".join(str(said).split())), LONGEST_COMPLAINT)


def _require_plain(text: str) -> None:
    """Looks through the stream of events, which ends at the first that is too much, before anything is made of them."""
    import yaml

    depth = 0
    for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        line = f"line {event.start_mark.line + 1 if event.start_mark else '?'}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise FaultyError(f"it has anchors or aliases ({line}); write the value out in each place")
        if getattr(event, "tag", None):
            raise FaultyError(f"it has tags ({line}); write plain values")
        if isinstance(event, yaml.ScalarEvent):
            event.value.encode()
            if len(event.value) > LONGEST_YAML_SCALAR:
                raise FaultyError(f"it has a value of {len(event.value):,} characters ({line})")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML or number > MOST_YAML_NODES:
            raise FaultyError(f"it has more than {DEEPEST_YAML} levels or {MOST_YAML_NODES:,} values ({line})")


def _yaml_loader(faults: list[str]) -> Any:
    """A loader for the kinds of values that JSON has too; integers in base 60 alone take YAML's own for minutes."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (as PyYAML has it)

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            line = f"line {key_node.start_mark.line + 1}"
            if not isinstance(key, str | int | float):
                faults.append(f"{excerpt(key) if key is not None else 'this'} is no key ({line})")
            elif key in found:
                faults.append(f"{excerpt(key)} is given twice ({line})")
            else:
                found[key] = loader.construct_object(value_node, deep=True)
        return found

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    words = "yes|no|true|false|on|off"
    resolvers = {
        "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        "bool": (f"{words}|{words.title()}|{words.upper()}", list("yYnNtTfFoO")),
        "int": (r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
        "float": (r"[-+]?[0-9]{1,18}\.[0-9]{0,18}(?:[eE][-+]?[0-9]{1,2})?", list("-+0123456789")),
    }
    for name, (pattern, first) in resolvers.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"), first)
    return Loader


def toml_value(content: bytes) -> dict[str, Any]:
    """What TOML says, as tables, lists, texts, numbers, true and false; dates and times are Python's.

    Raises:
        FaultyError: it is no TOML, or nested too deeply.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        document: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FaultyError(f"it is no text in UTF-8 ({error.reason})") from error
    except (ValueError, RecursionError) as error:
        raise FaultyError(f"it is no TOML: {_complaint(error)}") from error
    _require_bounded(document)
    return document


# Schemas.


def typed(value: Any, schema: type[T], *, unknown_entries: bool = False) -> T:
    """A value of a type out of tables, lists, texts and numbers; nothing is turned from one kind into another.

    Args:
        value: as `json_value` gives it.
        schema: a dataclass, or tables and lists of such.
        unknown_entries: whether to pass over entries that the schema does not know.

    Raises:
        FaultyError: entries are missing, unknown, of another kind, or refused by the dataclass itself.
    """
    import msgspec

    # msgspec knows no dataclass that refuses entries, and tells the first fault only: so faults are looked for here.
    if not unknown_entries and (faults := tuple(_faults(value, schema, "", unknown_entries))):
        raise FaultyError(*faults)
    try:
        return _converted(value, schema)
    except (msgspec.MsgspecError, MimiEdgeError, ValueError, OverflowError) as error:
        faults = tuple(_faults(value, schema, "", unknown_entries)) or (_one_line(error),)
        raise FaultyError(*faults) from error


def _converted(value: Any, hint: type[T]) -> T:
    """The library's own conversion; a type that has `from_document` makes itself out of its entry."""
    import msgspec

    return msgspec.convert(value, hint, dec_hook=lambda kind, entry: getattr(kind, FROM_DOCUMENT)(entry))


def _faults(value: Any, hint: Any, where: str, unknown_entries: bool) -> Iterator[str]:
    origin = get_origin(hint)
    if is_dataclass(hint):
        yield from _table_faults(value, hint, where, unknown_entries)
    elif origin in (Union, types.UnionType):
        choices = [choice for choice in get_args(hint) if choice is not types.NoneType]
        if value is None or len(choices) > 1:
            yield from _own_fault(value, hint, where)
        else:
            yield from _faults(value, choices[0], where, unknown_entries)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        for name, entry in value.items():
            yield from _faults(
                entry, get_args(hint)[1], f"{where}{'.' if where else ''}{_named(name)}", unknown_entries
            )
    elif origin is tuple and get_args(hint)[-1] is Ellipsis and isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _faults(entry, get_args(hint)[0], f"{where}[{index}]", unknown_entries)
    elif origin is Annotated and get_origin(bare := get_args(hint)[0]) is tuple:
        yield from list(_faults(value, bare, where, unknown_entries)) or _own_fault(value, hint, where)
    else:
        yield from _own_fault(value, hint, where)


def _table_faults(value: Any, schema: Any, where: str, unknown_entries: bool) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'it'}: expected a table, got {excerpt(value)}"
        return
    prefix = f"{where}." if where else ""
    known, required = _entries(schema)
    found = [f"{prefix}{name} is missing" for name in required if name not in value]
    if not unknown_entries:
        found += [f"{prefix}{_named(str(name))} is not known{_choice(known)}" for name in value if name not in known]
    for name in known.keys() & value.keys():
        found += _faults(value[name], known[name], prefix + name, unknown_entries)
    yield from sorted(found) or _own_fault(value, schema, where)


def _own_fault(value: Any, hint: Any, where: str) -> Iterator[str]:
    """What msgspec, or the dataclass itself, says of one value."""
    import msgspec

    place = f"{where}: " if where else ""
    try:
        _converted(value, hint)
    except MimiEdgeError as error:
        yield f"{place}{_one_line(error)}"
    except msgspec.ValidationError as error:
        if is_dataclass(hint) or hasattr(hint, FROM_DOCUMENT):
            yield f"{place}{_one_line(error)}"
        else:
            quoted = "; write it in quotes" if _is_unquoted(value, hint) else ""
            yield f"{place}expected {_in_words(hint)}, got {excerpt(value)}{quoted}"
    except (ValueError, TypeError, OverflowError) as error:
        yield f"{place}{_one_line(error)}"


def _is_unquoted(value: Any, hint: Any) -> bool:
    """Whether a number stands where a text is wanted, such as a version that YAML takes for one."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return bare is str and isinstance(value, int | float)


def _choice(known: Mapping[str, Any]) -> str:
    return f"; known are {', '.join(known)}" if len(known) <= MOST_NAMES_TOLD else ""


def _one_line(error: Exception) -> str:
    return safe_line(" ".join(str(error).split()))


def _named(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 80 else excerpt(name)


@cache
def _entries(schema: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of a dataclass's fields by name, and which of them must be given."""
    hints = get_type_hints(schema, include_extras=True)
    needed = [one.name for one in fields(schema) if one.default is MISSING and one.default_factory is MISSING]
    return {one.name: hints[one.name] for one in fields(schema) if one.init}, tuple(needed)


def _in_words(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", types.NoneType: "null"}
    origin = get_origin(hint)
    if hint in words:
        return words[hint]
    if origin is Annotated:
        bare, *said = get_args(hint)
        return next((one.description for one in said if one.description), None) or _in_words(bare)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(str(choice.value) for choice in hint)}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if origin is tuple:
        items = get_args(hint)
        return "a list" if items[-1] is Ellipsis else f"a list of {', '.join(map(_in_words, items))}"
    return "a table"

"""Reads device profiles from YAML, and tells every fault of a file at once."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimi_edge.documents import FaultyError, read_bytes, yaml_value
from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.device import (
    COMPUTE_CAPABILITY,
    KINDS,
    NAME,
    PRECISIONS,
    Device,
    JetPack,
    LaunchOverhead,
    PowerMode,
    Source,
)
from mimi_edge.profiles.devices.quantities import BANDWIDTH, FLOATING, INTEGER, POWER, SIZE, TIME, Kind, parse_quantity
from mimi_edge.texts import LONGEST_EXCERPT, cut, excerpt, fault_list, safe_line

SCHEMA = 1
LARGEST_BYTES = 64_000
OPERATION_KINDS = {precision: INTEGER if precision == "int8" else FLOATING for precision in PRECISIONS}


def read_device(path: Path) -> Device:
    """Reads one profile.

    Raises:
        ConfigError: it cannot be read or is no profile; every fault is named.
    """
    device, faults = check_device(path)
    if device is None:
        raise ConfigError(
            f"{path} is no device profile:\n{fault_list(faults)}\nCorrect these; docs/devices.md describes every key."
        )
    return device


def check_device(path: Path) -> tuple[Device | None, list[str]]:
    """The profile in a file, or None and every fault of it."""
    faults: list[str] = []
    document = _document(path, faults)
    if document is None:
        return None, faults
    device = _device(_Fields(document, "", faults))
    if faults:
        return None, faults
    try:
        return Device(**device), []
    except ConfigError as error:
        return None, [str(error)]


def _document(path: Path, faults: list[str]) -> Mapping[Any, Any] | None:
    """What a file holds before its quantities are read.

    There is no dataclass to hand to the reader of documents: a profile has quantities with units, which a device does
    not, and its faults are told in the words of docs/devices.md.
    """
    try:
        document = yaml_value(read_bytes(path, LARGEST_BYTES))
    except OSError as error:
        too_large = "; a profile has a few thousand" if error.errno == errno.EFBIG else ""
        faults.append(f"it cannot be read: {error.strerror}{too_large}")
    except FaultyError as error:
        faults += error.faults
    else:
        if isinstance(document, Mapping):
            return document
        faults.append(f"expected keys and values, got {excerpt(document)}")
    return None


@dataclass(frozen=True)
class _Fields:
    """The keys of one mapping, taken one by one; what is wrong goes to the list of faults."""

    mapping: Mapping[Any, Any]
    where: str
    faults: list[str]

    def fault(self, key: str, text: str) -> None:
        """Notes a fault of one key."""
        self.faults.append(f"{self.where}{key} {text}")

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A text; figures such as versions must be quoted, because YAML makes 8.10 the number 8.1."""
        value = self.mapping.get(key)
        if value is None:
            if required:
                self.fault(key, "is missing")
            return None
        if isinstance(value, str) and value.strip():
            return value.strip()
        quoted = "; write it in quotes" if isinstance(value, int | float) else ""
        self.fault(key, f"must be a text, got {excerpt(value)}{quoted}")
        return None

    def flag(self, key: str) -> bool:
        """True or false; false where it is missing."""
        value = self.mapping.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, f"must be true or false, got {excerpt(value)}")
        return value is True

    def quantity(self, key: str, kind: Kind) -> float | None:
        """A quantity in its base unit."""
        if self.mapping.get(key) is None:
            return None
        try:
            return parse_quantity(self.mapping[key], kind)
        except ValueError as error:
            self.fault(key, str(error))
            return None

    def section(self, key: str) -> _Fields | None:
        """A mapping inside this one."""
        value = self.mapping.get(key)
        if value is None:
            return None
        if isinstance(value, Mapping):
            return _Fields(value, f"{self.where}{key}.", self.faults)
        self.fault(key, f"must hold keys and values, got {excerpt(value)}")
        return None

    def sections(self, key: str) -> list[_Fields]:
        """A list of mappings."""
        found = []
        for number, value in enumerate(self.items(key), 1):
            if isinstance(value, Mapping):
                found.append(_Fields(value, f"{self.where}{key}[{number}].", self.faults))
            else:
                self.fault(f"{key}[{number}]", f"must hold keys and values, got {excerpt(value)}")
        return found

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.mapping.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self.fault(key, f"must be a list, got {excerpt(value)}")
        return []

    def only(self, *known: str) -> None:
        """Finds keys that nobody asked for."""
        for key in self.mapping:
            if key not in known:
                self.fault(cut(safe_line(key), LONGEST_EXCERPT), f"is unknown; known are {', '.join(known)}")


def _device(fields: _Fields) -> dict[str, Any]:
    fields.only(
        *("schema", "name", "title", "kind", "architecture", "compute_capability", "memory", "unified_memory"),
        *("memory_bandwidth", "performance", "launch_overhead", "board_power", "power_modes", "jetpack", "sources"),
        "notes",
    )
    if fields.mapping.get("schema") != SCHEMA:
        fields.fault("schema", f"must be {SCHEMA}, got {excerpt(fields.mapping.get('schema'))}")
    memory = fields.quantity("memory", SIZE)
    return {
        "name": _matching(fields, "name", NAME.fullmatch, "small letters, digits and hyphens"),
        "title": fields.text("title", required=True),
        "kind": _matching(fields, "kind", lambda kind: kind in KINDS, f"one of {', '.join(KINDS)}"),
        "architecture": fields.text("architecture"),
        "compute_capability": _compute_capability(fields),
        "memory_bytes": None if memory is None else int(memory),
        "unified_memory": fields.flag("unified_memory"),
        "memory_bytes_per_s": fields.quantity("memory_bandwidth", BANDWIDTH),
        "operations_per_s": _operations(fields),
        "launch_overhead": _launch_overhead(fields),
        "board_watts": fields.quantity("board_power", POWER),
        "power_modes": _power_modes(fields),
        "jetpacks": tuple(_jetpack(entry) for entry in fields.sections("jetpack")),
        "sources": _sources(fields),
        "notes": _notes(fields),
    }


def _notes(fields: _Fields) -> tuple[str, ...]:
    notes = fields.items("notes")
    for number, note in enumerate(notes, 1):
        if not isinstance(note, str):
            fields.fault(f"notes[{number}]", f"must be a text, got {excerpt(note)}")
    return tuple(map(str, notes))


def _matching(fields: _Fields, key: str, fits: Callable[[str], object], expected: str) -> str:
    value = fields.text(key, required=True)
    if value is not None and not fits(value):
        fields.fault(key, f"must be {expected}, got {excerpt(value)}")
    return value or ""


def _compute_capability(fields: _Fields) -> str | None:
    value = fields.text("compute_capability")
    if value is not None and not COMPUTE_CAPABILITY.fullmatch(value):
        fields.fault("compute_capability", f"must look like '8.7', got {excerpt(value)}")
    return value


def _operations(fields: _Fields) -> dict[str, float]:
    section = fields.section("performance")
    if section is None:
        return {}
    section.only(*PRECISIONS)
    read = {precision: section.quantity(precision, kind) for precision, kind in OPERATION_KINDS.items()}
    return {precision: value for precision, value in read.items() if value is not None}


def _launch_overhead(fields: _Fields) -> LaunchOverhead | None:
    section = fields.section("launch_overhead")
    if section is None:
        return None
    section.only("value", "assumption")
    value, assumption = section.quantity("value", TIME), section.text("assumption", required=True)
    if value is None:
        if section.mapping.get("value") is None:
            section.fault("value", f"is missing; expected something like {TIME.example!r}")
        return None
    return LaunchOverhead(value, assumption or "")


def _power_modes(fields: _Fields) -> tuple[PowerMode, ...]:
    modes: list[PowerMode] = []
    for entry in fields.sections("power_modes"):
        entry.only("name", "power", "memory_bandwidth", "performance")
        name = entry.text("name", required=True) or ""
        if name and name in [mode.name for mode in modes]:
            entry.fault("name", f"{excerpt(name)} is given twice")
        bandwidth = entry.quantity("memory_bandwidth", BANDWIDTH)
        modes.append(PowerMode(name, entry.quantity("power", POWER), bandwidth, _operations(entry)))
    return tuple(modes)


def _jetpack(entry: _Fields) -> JetPack:
    entry.only("version", "l4t", "cuda", "tensorrt")
    version = entry.text("version", required=True) or ""
    return JetPack(version, entry.text("l4t"), entry.text("cuda"), entry.text("tensorrt"))


def _sources(fields: _Fields) -> tuple[Source, ...]:
    entries = fields.sections("sources")
    if not fields.items("sources"):
        fields.fault("sources", "is missing; say where the figures are from (title, publisher, address)")
    found = []
    for entry in entries:
        entry.only("title", "publisher", "address")
        title, publisher = entry.text("title", required=True), entry.text("publisher", required=True)
        found.append(Source(title or "", publisher or "", entry.text("address")))
    return tuple(found)

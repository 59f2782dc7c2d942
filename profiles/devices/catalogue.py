"""The device profiles there are: those that come with mimi-edge, and a person's own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.files import write_whole
from mimi_edge.profiles.devices.device import Device
from mimi_edge.profiles.devices.read_device import check_device, read_device
from mimi_edge.texts import fault_list

BUILT_IN = Path(__file__).parent / "data"
VARIABLE = "MIMI_EDGE_DEVICES"
SUFFIXES = (".yaml", ".yml")


def user_folder() -> Path:
    """Where a person's own profiles are looked for: `$MIMI_EDGE_DEVICES`, or `devices` in the user's configuration."""
    from platformdirs import user_config_path

    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return user_config_path("mimi-edge") / "devices"


def all_devices(folder: Path | None = None) -> dict[str, Device]:
    """Every profile by name, the built-in ones first, each group in order of names.

    Args:
        folder: of a person's own profiles; `user_folder()` by default. It need not exist.

    Raises:
        ConfigError: own files have faults, or two profiles have one name; all of them are listed.
    """
    devices = {device.name: device for device in map(read_device, profile_files(BUILT_IN))}
    faults: list[str] = []
    for path in profile_files(folder or user_folder()):
        device, found = check_device(path)
        faults += [f"{path}: {fault}" for fault in found]
        if device is not None and device.name in devices:
            faults.append(f"{path}: the name {device.name!r} is taken by {devices[device.name].title}; choose another")
        elif device is not None:
            devices[device.name] = device
    if faults:
        raise ConfigError(f"Device profiles have faults:\n{fault_list(faults, None)}\nCorrect or remove these files.")
    return devices


def profile_files(folder: Path) -> list[Path]:
    """The profiles in a folder, in order of names."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def find_device(name: str, devices: Iterable[Device]) -> Device:
    """The profile of a name; `NAME:MODE` is the device in one of its power modes.

    Raises:
        ConfigError: there is none; the message lists names that look like it.
    """
    from difflib import get_close_matches

    wanted, _, mode = name.partition(":")
    by_name = {device.name: device for device in devices}
    if wanted in by_name:
        return by_name[wanted].in_mode(mode) if mode else by_name[wanted]
    parts = [known for known in by_name if wanted and wanted in known]
    close = parts or get_close_matches(wanted, by_name, n=5, cutoff=0.5)
    hint = f"Did you mean {', '.join(close)}?" if close else "mimi-edge devices lists them all."
    raise ConfigError(f"There is no device profile {wanted!r}. {hint}")


def add_device(path: Path, folder: Path | None = None) -> Path:
    """Puts a checked copy of a profile into the folder of a person's own.

    Returns:
        the copy.

    Raises:
        ConfigError: the file has faults, or its name is taken.
        OSError: the folder cannot be written.
    """
    device = read_device(path)
    target = (folder or user_folder()) / f"{device.name}.yaml"
    if device.name in all_devices(folder) or target.exists():
        raise ConfigError(f"There is a profile {device.name!r} already. Rename yours, or remove {target}.")
    write_whole(target, path.read_bytes())
    return target

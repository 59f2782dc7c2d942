"""Finds the packages of the four rooms; everything else about the project is in pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = {
    "mimi_edge": "mimi_edge",
    "mimi_edge.cli": "cli",
    "mimi_edge.export": "export",
    "mimi_edge.profiles": "profiles",
}


def packages_of_room(name: str, folder: str) -> list[str]:
    """The room itself and every package below it, under the names they are imported by."""
    return [name, *(f"{name}.{package}" for package in find_packages(folder))]


setup(
    packages=[package for name, folder in ROOMS.items() for package in packages_of_room(name, folder)],
    package_dir=ROOMS,
)

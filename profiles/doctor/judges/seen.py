"""The answers of all probes, as judges ask about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mimi_edge.parts import LIBRARIES, Library, install_line, library_of
from mimi_edge.profiles.doctor.ask import IMPORT, Answer, Answers, Failure
from mimi_edge.profiles.doctor.findings import first_sentence

NOTHING = Answer()
GOOD, ABSENT, BAD = "good", "absent", "bad"


@dataclass(frozen=True)
class Seen:
    """What was found, step by step; a step that was not taken found nothing."""

    answers: Answers

    def facts(self, step: str) -> Mapping[str, Any]:
        """What a step found."""
        return self.answers.get(step, NOTHING).facts

    def failure(self, step: str) -> Failure | None:
        """Why a step did not come to its end."""
        return self.answers.get(step, NOTHING).failure

    def library(self, name: str) -> str:
        """`good`, `absent` or `bad`, of a library by its module."""
        answer = self.answers.get(name, NOTHING)
        if answer.failure is not None or (not answer.facts.get("installed") and answer.facts.get("distributions")):
            return BAD
        return GOOD if answer.facts.get("installed") else ABSENT

    def lacking(self, *names: str) -> list[str]:
        """Those libraries that are absent or bad."""
        return [name for name in names if self.library(name) != GOOD]

    def blamed(self, library: Library) -> list[str]:
        """Other libraries it needs that are absent or bad: its own failure says nothing about it."""
        return self.lacking(*library.needs)

    def version(self, name: str) -> str | None:
        """Of a library, as it says itself, else as pip knows it."""
        facts = self.facts(name)
        return facts.get("version") or next(iter(facts.get("distributions", {}).values()), None)

    @property
    def core_lacking(self) -> list[str]:
        """Libraries of the core that are absent or bad."""
        return self.lacking(*(library.name for library in LIBRARIES if not library.part))

    def not_ours(self, step: str) -> bool:
        """Whether a probe failed only because a library of the core cannot be loaded."""
        failure = self.failure(step)
        return failure is not None and failure.kind == IMPORT and bool(self.core_lacking)

    @property
    def has_driver(self) -> bool:
        """Whether the NVIDIA driver's library is here."""
        return bool(self.facts("driver").get("library"))

    @property
    def gpu(self) -> Mapping[str, Any] | None:
        """The GPU that can be used, None without one."""
        device: Mapping[str, Any] | None = self.facts("cuda").get("device")
        return device

    @property
    def why_no_gpu(self) -> str:
        """Why there is none, in one sentence."""
        driver = self.facts("driver")
        if driver and not driver.get("library"):
            return "There is no NVIDIA driver here"
        failure = self.failure("cuda")
        told = failure.text if failure else str(self.facts("cuda").get("why_not", "CUDA was not looked at"))
        return first_sentence(told).partition(", so ")[0]

    @property
    def is_jetson(self) -> bool:
        """Whether this is a Jetson."""
        return bool(self.facts("jetson").get("is_jetson"))

    def install_line(self, part: str | None) -> str:
        """The line that installs a part of mimi-edge on this machine."""
        return install_line(part, tegra=self.is_jetson)

    @property
    def torch_on_gpu(self) -> bool:
        """Whether torch computed on the GPU."""
        return self.facts("torch.cuda").get("sum") == 3.0


def library(name: str) -> Library:
    """The library of a module that is known to be one of ours."""
    found = library_of(name)
    assert found is not None, name  # noqa: S101
    return found

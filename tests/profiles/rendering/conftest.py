"""Reports to render, the samples beside this folder, and a browser to look at them with."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]

from rendering_samples import HOSTILE  # noqa: E402
from report_samples import (  # noqa: E402
    BOARD,
    GPU,
    make_energy,
    make_environment,
    make_estimate,
    make_report,
)

from mimi_edge.profiles.ledger import COMPUTED, ESTIMATE, FILES, Cost, Ledger, Line, ledger_document  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")


@pytest.fixture(scope="session")
def ledger():
    full = Cost(0, 24_000_000, 2, COMPUTED), Cost(0, 24_000_000, 2, ESTIMATE)
    package = Cost(12_000_000, 1_100_000, 2, FILES), Cost(0, 13_000_000, 1, ESTIMATE)
    engines = Cost(0, 14_000_000, 2, COMPUTED), Cost(0, 7_000_000, 1, ESTIMATE)
    lines = (
        Line("full-models", "full models", *full, "Copies."),
        Line("onnx-package", "ONNX package", *package, "Shared."),
        Line("per-task.fp16", "an engine <each>", *engines, "Plans & all."),
    )
    return Ledger("tiny <b>", ("digits", "fashion"), {"weights": 12_000_000, "tasks": 1_100_000}, lines)


@pytest.fixture(scope="session")
def full_report(ledger):
    """Everything that a report can hold, with names that are hard on whoever prints them."""
    report = make_report(
        tasks=("digits", *HOSTILE),
        batches=(1, 8),
        failed=True,
        ledger=ledger_document(ledger),
        environment=make_environment(gpu=GPU, board=BOARD, marks=("Another process <was> on the GPU.",)),
    )
    backbone, digits, *others = report.artefacts
    measured = tuple(replace(it, energy=make_energy(), estimate=make_estimate(it.batch)) for it in digits.measurements)
    return replace(report, artefacts=(backbone, replace(digits, measurements=measured), *others))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Runs headless Chromium with some options on a file; skips where there is none that works.

    `apt install chromium`, or any Chromium or Chrome on the PATH, or its path in CHROME_BIN.
    """
    found = os.environ.get("CHROME_BIN") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium or Chrome on the PATH; install one (apt install chromium) or set CHROME_BIN")
    profile = tmp_path_factory.mktemp("browser")

    def run(page, *options):
        base = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        base += [f"--user-data-dir={profile}", "--no-first-run", "--disable-background-networking"]
        return subprocess.run([found, *base, *options, page.as_uri()], capture_output=True, timeout=60, check=False)

    hello = profile / "hello.html"
    hello.write_text("<p>hello</p>")
    try:
        said = run(hello, "--dump-dom")
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{found} does not run here: {error}")
    if b"hello" not in said.stdout:
        pytest.skip(f"{found} does not run here: {said.stderr.decode(errors='replace')[-300:]}")
    return run

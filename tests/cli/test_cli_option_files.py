"""`--config`: options out of a file, those of the command line before them, and every fault at once."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_world import here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mimi_edge.choices import Store
from mimi_edge.cli.option_files import read_option_file
from mimi_edge.cli.training_options import AskedConfig, takes_training_options
from mimi_edge.errors import ConfigError
from mimi_edge.training.config import TrainingConfig


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    """Gives the configuration that a file, and options beside it, ask for."""

    def ask(content: str, *options: str, name: str = "options.yaml") -> TrainingConfig:
        (tmp_path / name).write_text(content, "utf-8")
        found: list[TrainingConfig] = []
        app = typer.Typer()

        @app.command()
        @takes_training_options
        def command(asked: AskedConfig) -> None:
            found.append(asked.config())

        outcome = CliRunner().invoke(app, ["--config", str(tmp_path / name), *options])
        if isinstance(outcome.exception, ConfigError):
            raise outcome.exception
        assert outcome.exit_code == 0, outcome.output
        return found[0]

    return ask


YAML = """
# Options by their names.
budget-mb: 0.5
batch_size: 16
lr: 1e-3
one-shot: yes
scope: stages
stage-shares: [1, 2, 4]
"""
TOML = """
budget-mb = 0.5
batch_size = 16
lr = 1e-3
one-shot = true
scope = "stages"
stage-shares = [1, 2, 4]
"""


@pytest.mark.parametrize(("content", "name"), [(YAML, "o.yaml"), (YAML, "o.yml"), (TOML, "o.toml")])
def test_a_file_has_the_same_names_as_the_options(asked: Any, content: str, name: str) -> None:
    config = asked(content, name=name)
    assert config.budget.size_bytes == 500_000
    assert (config.batch_size, config.learning_rate, config.one_shot) == (16, 1e-3, True)
    assert config.stage_shares == (1, 2, 4)
    assert config.epochs == TrainingConfig.epochs


def test_the_command_line_goes_before_the_file_even_where_it_says_the_default(asked: Any) -> None:
    config = asked("budget-mb: 0.5\nepochs: 3\nkeep-rounds: false\nseed: 7\n", "--epochs", "12", "--keep-rounds")
    assert (config.epochs, config.keep_rounds, config.seed) == (12, True, 7)


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_a_file_may_hold_nothing(asked: Any, content: str) -> None:
    assert asked(content, "--budget-mb", "1").budget.size_bytes == 1_000_000


def test_every_fault_is_told_at_once_with_its_place(asked: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        asked(
            "budget-mb: -1\nepochs: twelve\nlearning_rate: 3\nlr: 0\nstore: fp8\nepoch: 3\nmin-images: -1\nresume: x\n"
            "seed: 1\nseed_: 2\nkeep_rounds: 1\nname: 2024\nmax-minutes: [1]\n",
        )
    assert str(raised.value).splitlines()[0].endswith("options.yaml:")
    said = [line.removeprefix("  - ") for line in str(raised.value).splitlines()[1:]]
    assert said == [
        "epochs (line 2): expected a whole number, got 'twelve'",
        "learning-rate (line 3): there is no such option; did you mean lr?",
        f"store (line 5): expected one of {', '.join(Store)}, got 'fp8'",
        "epoch (line 6): there is no such option; did you mean epochs?",
        "min-images (line 7): must be at least 0, got -1",
        "resume (line 8): --resume belongs on the command line",
        "seed- (line 10): there is no such option; did you mean seed?",
        "keep-rounds (line 11): expected true or false, got 1",
        "name (line 12): expected a text, got 2024; put it in quotes",
        "max-minutes (line 13): expected a number, got [1]",
        "budget-mb (line 1): --budget-mb must be a positive number, got -1.0.",
        "lr (line 4): --lr must be finite and larger than zero, got 0.0",
    ]


def test_a_fault_of_the_command_line_has_no_line(asked: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        asked("budget-mb: 1\nlr: 1\n", "--lr", "-1")
    assert "  - --lr must be finite and larger than zero, got -1.0" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("[1, 2]", "o.yaml", "expected options and their values, such as epochs: 12; got [1, 2]"),
        ("a: [", "o.yaml", "it is no YAML: expected the node content, but found '<stream end>' (line 1)"),
        ("a = ", "o.toml", "it is no TOML"),
        ("epochs: 1\nepochs: 2", "o.yaml", "'epochs' is given twice (line 2)"),
        ("batch-size: 1\nbatch_size: 2", "o.yaml", "batch-size is given twice, with a dash and with an underscore"),
        ("{}", "o.json", "expected a file whose name ends with .yaml, .yml, .toml, got 'o.json'"),
        ("epochs = 1979-05-27", "o.toml", "epochs (line 1): expected a whole number"),
        ("epochs: 9" + 40 * "9", "o.yaml", "epochs (line 1): expected a whole number"),
        ("epochs: &a 3\nseed: *a", "o.yaml", "anchors or aliases"),
        ('data = "a\\u0000b"', "o.toml", "data (line 1): it holds a zero byte"),
        ("[train]\nepochs = 3", "o.toml", "train: there is no such option"),
        ("seed: null", "o.yaml", "seed (line 1): expected a whole number, got None"),
    ],
)
def test_a_file_that_cannot_be_read_so_is_one_clear_error(asked: Any, content: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        asked(content, "--budget-mb", "1", name=name)
    assert said in str(raised.value)


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [*"-:=[]{}'\"#&*!|>.,e0123456789\n \0\t", "epochs", "lr", "null", "name", "nan", "1e999", "\n- ", "[["]
            ),
            max_size=60,
        ).map(lambda parts: "".join(parts).encode()),
    ),
    ending=st.sampled_from([".yaml", ".toml"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_a_file_is_values_or_faults(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"o{ending}"
    path.write_bytes(content)
    parameters = inspect.signature(takes_training_options(lambda asked: None)).parameters
    file = read_option_file(path, {name: one for name, one in parameters.items() if name != "ctx"}, set(parameters))
    assert set(file.values) <= set(parameters)
    assert all(len(fault) < 1_000 and fault.isprintable() for fault in file.faults)


def test_a_file_that_is_not_there_and_one_to_resume_with_are_refused(tmp_path: Path) -> None:
    outcome = here("plan", "--config", tmp_path / "none.yaml", "--budget-mb", "1").ended(2)
    assert "it cannot be read (No such file or directory)" in outcome.err
    (tmp_path / "o.yaml").touch()
    outcome = here("train", "--resume", tmp_path, "--config", tmp_path / "o.yaml").ended(2)
    assert "leave out --config" in outcome.err


def test_compare_takes_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('methods = ["mimi", "lorra"]\nbudget-mb = 0.5\nlrs = [1e-3]\nseeds = 0\nepochs = -3\n', "utf-8")
    outcome = here("compare", "--config", path).ended(2)
    for said in ("seeds (line 4): must be at least 1, got 0", "lorra", "epochs (line 5): --epochs: expected numbers"):
        assert said in outcome.err

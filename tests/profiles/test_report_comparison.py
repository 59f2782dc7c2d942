"""Two reports side by side: conditions, ratios, intervals, limits."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import (
    BOARD,
    GPU,
    make_backbone,
    make_energy,
    make_environment,
    make_failed,
    make_measurement,
    make_report,
    make_samples,
    make_task,
)

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.gates import judge, parsed_limits
from mimi_edge.profiles.latency import Samples, Share
from mimi_edge.profiles.report_comparison import (
    METRICS,
    NOT_IN_TURNS,
    Change,
    Comparison,
    changes_by_place,
    compare,
    comparison_document,
    condition_differences,
    read_report,
)
from mimi_edge.profiles.report_documents import report_document
from mimi_edge.profiles.reports import MeasuredAccuracy, MemoryUse

QUICK = {"resamples": 200}
JETSON = {"kind": "jetson", "name": "Orin Nano", "power_mode": "MAXN", "facts": {"l4t": "36.4.3", "clocks_fixed": True}}


def with_environment(**changes):
    return make_report(environment=make_environment(**changes))


def one_task(samples, **changes):
    """A report of one task with these samples at batch 1."""
    return make_report(artefacts=(make_task(measurements=(make_measurement(1, samples),), **changes),))


def found(comparison, artefact, metric, batch=None):
    [change] = [it for it in comparison.changes if (it.artefact, it.metric, it.batch) == (artefact, metric, batch)]
    return change


# Conditions.


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({"cpu": "Another CPU"}, "cpu"),
        ({"cores": 2}, "cores"),
        ({"threads": 1}, "threads"),
        ({"threads": None}, "threads"),
        ({"system": "Linux 6.9"}, "system"),
        ({"python": "3.12.0"}, "python"),
        ({"providers": ("CUDAExecutionProvider",)}, "providers"),
        ({"packages": {"numpy": "2.0.0", "onnxruntime": "1.30.0"}}, "package onnxruntime"),
        ({"packages": {"numpy": "2.0.0"}}, "package onnxruntime"),
        ({"gpu": GPU}, "gpu name"),
    ],
    ids=str,
)
def test_each_condition_that_differs_is_named_and_refused(changes, condition):
    a, b = make_report(), with_environment(**changes)
    assert condition in [difference.condition for difference in condition_differences(a, b)]
    with pytest.raises(ConfigError, match=f"{condition}: .* \\| ") as refused:
        compare(a, b, **QUICK)
    assert "--force" in str(refused.value)


@pytest.mark.parametrize(
    ("gpu", "condition"),
    [
        ({"driver": "580"}, "gpu driver"),
        ({"power_limit_watts": 200.0}, "gpu power_limit_watts"),
        ({"application_clocks_mhz": {"graphics": 1000}}, "gpu application_clocks_mhz"),
    ],
)
def test_a_gpus_driver_clocks_and_power_limit_are_conditions(gpu, condition):
    a, b = (with_environment(gpu=it, board=BOARD) for it in (GPU, GPU | gpu))
    assert [difference.condition for difference in condition_differences(a, b)] == [condition]


@pytest.mark.parametrize(
    ("board", "condition"),
    [
        ({"power_mode": "15W"}, "board power_mode"),
        ({"facts": {"l4t": "36.5.0", "clocks_fixed": True}}, "board l4t"),
        ({"facts": {"l4t": "36.4.3", "clocks_fixed": False}}, "board clocks_fixed"),
    ],
)
def test_a_jetsons_power_mode_and_clocks_are_conditions(board, condition):
    a, b = (with_environment(board=it) for it in (JETSON, JETSON | board))
    assert [difference.condition for difference in condition_differences(a, b)] == [condition]


@pytest.mark.parametrize("changes", [{"backend": "ort-cuda"}, {"precision": "fp16"}, {"strategy": "refit"}])
def test_backend_precision_and_strategy_of_an_artefact_are_conditions(changes):
    [name] = changes
    a, b = (make_report(artefacts=(make_task(**it),)) for it in ({}, changes))
    assert [difference.condition for difference in condition_differences(a, b)] == [f"{name} of digits"]


def test_batches_images_and_method_are_conditions_rounds_are_not():
    a = make_report(artefacts=(make_task(batches=(1, 8)),))
    b = make_report(artefacts=(make_task(batches=(1,)),))
    assert [difference.condition for difference in condition_differences(a, b)] == ["batches of digits"]
    fewer = replace(a.artefacts[0], accuracy=MeasuredAccuracy("test", 5, 4))
    assert [it.condition for it in condition_differences(a, replace(a, artefacts=(fewer,)))] == ["images of digits"]
    assert list(condition_differences(a, replace(a, method={**a.method, "rounds": 7}))) == []
    without_copies = replace(a, method={**a.method, "host_copies": False})
    assert [it.condition for it in condition_differences(a, without_copies)] == ["method host_copies"]


def test_what_is_compared_or_only_tells_of_the_moment_is_no_condition():
    packages = {"mimi-edge": "9.9.9", "numpy": "2.0.0", "onnxruntime": "1.31.0"}
    b = with_environment(packages=packages, git_revision="f" * 40, load_average=0.1, marks=("It was warm.",))
    comparison = compare(make_report(), b, **QUICK)
    assert comparison.differences == ()
    assert comparison.warnings == (NOT_IN_TURNS, "B: It was warm.")


def test_all_differences_are_named_at_once_and_forced_ones_are_kept():
    b = with_environment(threads=1, cpu="Another")
    with pytest.raises(ConfigError, match=r"(?s)cpu.*threads"):
        compare(make_report(), b, **QUICK)
    forced = compare(make_report(), b, force=True, **QUICK)
    assert [difference.condition for difference in forced.differences] == ["cpu", "threads"]
    assert forced.changes


# Ratios.


@given(st.floats(0.2, 5), st.integers(0, 5))
@settings(max_examples=15)
def test_a_ratio_is_b_over_a_and_its_interval_holds_it(factor, seed):
    samples = make_samples(seed=seed, count=60)
    slower = Samples(tuple(round(value * factor) for value in samples.latency_ns), (), True)
    comparison = compare(one_task(samples), one_task(slower), **QUICK)
    for metric in ("latency_p50", "latency_p90", "latency_p99", "latency_mean"):
        change = found(comparison, "digits", metric, 1)
        assert change.value == pytest.approx(factor, rel=1e-6)
        assert change.value == pytest.approx(change.b / change.a)
        assert change.low <= change.value * 1.0001
        assert change.high >= change.value * 0.9999


def test_intervals_are_of_independent_draws_and_the_same_each_time():
    a, b = (one_task(make_samples(seed=seed)) for seed in (1, 2))
    first, again = compare(a, b, **QUICK), compare(a, b, **QUICK)
    assert first == again
    change = found(first, "digits", "latency_p50", 1)
    assert change.low < change.value < change.high
    # A report against itself: samples of both are drawn apart, so the interval is not a point.
    same = found(compare(a, a, **QUICK), "digits", "latency_p50", 1)
    assert same.value == 1
    assert same.low < 1 < same.high


def test_more_samples_make_the_interval_narrower():
    widths = []
    for count in (30, 1000):
        sides = (one_task(make_samples(count=count, seed=seed, spread=0.5)) for seed in (0, 3))
        comparison = compare(*sides, **QUICK)
        change = found(comparison, "digits", "latency_p50", 1)
        widths.append(change.high - change.low)
    assert widths[1] < widths[0] / 2


def test_joules_memory_bytes_and_accuracy():
    energies = (make_energy(watts=watts) for watts in (60.0, 100.0))
    a, b = (
        make_report(
            artefacts=(
                make_task(
                    files={"x": size},
                    memory=MemoryUse(0, 100, 0, size),
                    measurements=(make_measurement(1, energy=energy),),
                    accuracy=accuracy,
                ),
            )
        )
        for size, energy, accuracy in zip((100, 300), energies, (0.9, 0.87), strict=True)
    )
    comparison = compare(a, b, **QUICK)
    assert found(comparison, "digits", "joules", 1).value == pytest.approx(2)
    assert found(comparison, "digits", "memory").value == pytest.approx(2)
    assert found(comparison, "digits", "storage").value == 3
    drop = found(comparison, "digits", "accuracy_drop")
    assert (drop.a, drop.b, drop.value) == (0.9, 0.87, pytest.approx(0.03))
    assert {change.metric for change in comparison.changes} == set(METRICS)
    assert set(changes_by_place(comparison.changes)) == {"digits", "digits, batch 1"}


def test_unified_memory_counts_once():
    a, b = (
        make_report(
            artefacts=(make_task(memory=MemoryUse(0, 100, 0, device)),),
            environment=make_environment(board={"unified_memory": True}),
        )
        for device in (50, 400)
    )
    assert found(compare(a, b, **QUICK), "digits", "memory").value == 4


def test_the_interval_holds_how_processes_scatter():
    """Steady samples of processes that differ by a tenth: each process is one look, however many samples it took."""
    levels = (10.0, 11.0, 12.0)
    values = [make_samples(level, spread=0.001, seed=3).latency_ns for level in levels]
    share = Share(len(values[0]), 0, 0, settled=True)
    several = Samples(sum(values, ()), (), True, (), (share,) * len(levels))
    change = found(compare(one_task(several), one_task(several), **QUICK), "digits", "latency_p50", 1)
    assert change.low < 0.85
    assert change.high > 1.15


def test_that_two_reports_were_not_taken_in_turns_is_said():
    assert "never measured in turns" in compare(make_report(), make_report(), **QUICK).warnings[0]


def test_what_one_side_lacks_is_named():
    a = make_report(tasks=("digits", "fashion"), batches=(1, 8))
    b = make_report(tasks=("digits", "birds"), batches=(1,))
    comparison = compare(a, b, force=True, **QUICK)
    assert comparison.only_a == ("backbone, batch 8", "digits, batch 8", "fashion")
    assert comparison.only_b == ("birds",)


def test_a_failure_is_told_and_its_missing_figures_are_gone():
    b = make_report(artefacts=(make_backbone((1, 8)), make_task("digits", (1, 8)), make_failed("fashion")))
    comparison = compare(make_report(), b, **QUICK)
    assert comparison.failed == ("B: fashion failed at latency, batch 1: Killed: out of memory?",)
    assert comparison.only_a == ("fashion, batch 1", "fashion, batch 8")


def test_reports_without_a_common_artefact_are_not_compared():
    a, b = (make_report(artefacts=(make_task(name),)) for name in ("digits", "fashion"))
    with pytest.raises(ConfigError, match="A has digits, B has fashion"):
        compare(a, b, **QUICK)


def test_the_document_is_json():
    document = json.loads(json.dumps(comparison_document(compare(make_report(), make_report(), **QUICK))))
    assert document["changes"][0]["metric"] == "latency_p50"
    assert document["differences"] == []


# Files.


def test_a_report_is_read_from_its_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(report_document(make_report())), "utf-8")
    assert read_report(path) == make_report()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 99}', b"\xff\xfe", b"[" * 100_000, b"a,b\n1,2\n"])
def test_what_is_no_report_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "no.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"no\.json"):
        read_report(tmp_path / "no.json")
    with pytest.raises(ArtifactError, match=r"none\.json"):
        read_report(tmp_path / "none.json")


# Limits.


def comparison_of(*changes, only_a=()):
    return Comparison((), tuple(only_a), (), (), (), changes)


def change(value, low=None, high=None, metric="latency_p50", artefact="digits"):
    return Change(artefact, 1, metric, 1.0, value, value, low, high)


@pytest.mark.parametrize(
    ("made", "limit", "strict", "broken", "unsure"),
    [
        (change(1.04, 1.0, 1.08), "latency_p50>1.05", False, 0, 0),
        (change(1.10, 1.06, 1.2), "latency_p50>1.05", False, 1, 0),
        (change(1.10, 1.04, 1.2), "latency_p50>1.05", False, 0, 1),
        (change(1.10, 1.04, 1.2), "latency_p50>1.05", True, 1, 0),
        (change(1.10, 1.05, 1.2), "latency_p50>1.05", False, 0, 1),
        (change(1.05, 1.05, 1.2), "latency_p50>1.05", True, 0, 0),
        (change(0.8, 0.7, 0.85), "latency_p50<0.9", False, 1, 0),
        (change(0.8, 0.7, 0.95), "latency_p50<0.9", False, 0, 1),
        (change(1.1, metric="storage"), "storage > 1", False, 1, 0),
        (change(1.0, metric="storage"), "storage > 1", True, 0, 0),
        (change(0.02, metric="accuracy_drop"), "accuracy_drop>1e-2", False, 1, 0),
        (change(-0.02, metric="accuracy_drop"), "accuracy_drop>-0.03", False, 1, 0),
    ],
)
def test_a_limit_is_broken_where_figure_and_interval_are_beyond_it(made, limit, strict, broken, unsure):
    [verdict] = judge(comparison_of(made), parsed_limits([limit]), strict=strict)
    assert (len(verdict.broken), len(verdict.unsure), verdict.judged) == (broken, unsure, 1)


def test_one_artefact_beyond_a_limit_is_enough_and_is_named():
    changes = [change(1.0, 0.9, 1.1), change(1.5, 1.4, 1.6, artefact="fashion")]
    [verdict] = judge(comparison_of(*changes), parsed_limits(["latency_p50>1.2"]))
    assert verdict.broken == ("fashion, batch 1: 1.5 (1.4 to 1.6)",)
    assert verdict.judged == 2


def test_what_is_gone_breaks_a_limit():
    [verdict] = judge(comparison_of(change(1.0), only_a=["fashion"]), parsed_limits(["latency_p50>1.2"]))
    assert verdict.broken == ("fashion: B does not have it",)


def test_a_limit_that_nothing_can_be_held_against_is_an_error():
    with pytest.raises(ConfigError, match="joules>1"):
        judge(comparison_of(change(1.0)), parsed_limits(["latency_p50>1.2", "joules>1"]))


@pytest.mark.parametrize(
    "text", ["", "latency_p50", "latency>1", "latency_p50>=1", "latency_p50>x", "p50>1", "joules>.", "memory>1e999"]
)
def test_limits_that_cannot_be_understood_are_named(text):
    with pytest.raises(ConfigError, match="METRIC>NUMBER"):
        parsed_limits(["storage>1", text])


def test_every_metric_can_be_limited():
    assert [limit.metric for limit in parsed_limits([f" {name} > 1.5 " for name in METRICS])] == list(METRICS)


def test_a_slow_down_within_the_noise_passes_and_a_real_one_does_not():
    base, noise = make_samples(seed=1, spread=0.3), make_samples(seed=2, spread=0.3)
    assert np.median(noise.latency_ns) != np.median(base.latency_ns)
    limits = parsed_limits(["latency_p50>1.0"])
    if found(compare(one_task(base), one_task(noise)), "digits", "latency_p50", 1).value < 1:
        base, noise = noise, base
    [same] = judge(compare(one_task(base), one_task(noise)), limits)
    assert same.broken == ()
    assert same.unsure
    slow = make_samples(13.0, seed=2, spread=0.3)
    [slower] = judge(compare(one_task(base), one_task(slow)), limits)
    assert slower.broken

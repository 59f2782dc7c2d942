"""What answers mean: which findings they make, with which line, and what commands can do then."""

from __future__ import annotations

from importlib.metadata import requires

import pytest
from doctor_samples import ABSENT, NO_GPU, failed, good_machine, gpu_machine, installed
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.parts import LIBRARIES
from mimi_edge.profiles.doctor.ask import Answer, Answers, Failure
from mimi_edge.profiles.doctor.diagnosis import diagnosis_of, document_of
from mimi_edge.profiles.doctor.findings import Can, Finding, State
from mimi_edge.profiles.doctor.judges.libraries import least_versions, numbers
from mimi_edge.profiles.doctor.steps import all_groups

pytestmark = pytest.mark.usefixtures("from_an_index")

TRAINING = ("torch", "torchvision", "timm", "onnxscript")


def findings(answers: Answers) -> list[Finding]:
    return list(diagnosis_of(answers).findings)


def only(answers: Answers) -> Finding:
    (finding,) = findings(answers)
    return finding


def can(answers: Answers, command: str) -> tuple[Can, str, str | None]:
    (ability,) = (one for one in diagnosis_of(answers, ["inspect"]).abilities if one.command == command)
    return ability.can, ability.text, ability.line


def test_a_machine_where_all_works_has_nothing_to_mend() -> None:
    for answers in (good_machine(), gpu_machine()):
        diagnosis = diagnosis_of(answers, ["train", "inspect", "devices", "doctor"])
        assert diagnosis.findings == ()
        assert diagnosis.healthy
        assert diagnosis.abilities[-1].command == "inspect, devices"
    yes = {one.command for one in diagnosis_of(gpu_machine()).abilities if one.can is Can.YES}
    assert {"train, plan", "export --format trt --backend trt", "predict, profile --backend ort-trt"} <= yes
    assert can(gpu_machine(), "predict, profile --backend trt")[:2] == (Can.YES, "on NVIDIA L4")


def test_without_a_gpu_nothing_that_needs_one_is_a_fault() -> None:
    rtx = Answer({"installed": True, "version": "1.7.1.116", "library": "1.7.1", "wheels": {}})
    answers = good_machine(trt_rtx=rtx)
    answers |= {"trt-rtx builder": Answer({"made": True}), "trt-rtx runtime": failed("error", "no driver")}
    answers |= {"ort-cuda": failed("error", "libcuda.so.1 is missing", built_in=True)}
    assert findings(answers) == []
    state, text, line = can(answers, "export --format trt --backend trt-rtx")
    assert (state, line) == (Can.PARTLY, None)
    assert "there is no NVIDIA driver here" in text
    assert can(answers, "predict, profile --backend ort-cuda") == (Can.NO, "there is no NVIDIA driver here", None)


def test_without_a_gpu_an_install_line_is_given_only_for_what_builds_without() -> None:
    answers = good_machine(cuda=Answer({"runtime": False, "why_not": "There is no CUDA runtime library here."}))
    said = "not installed, and there is no NVIDIA driver here"
    assert can(answers, "predict, profile --backend trt-rtx") == (Can.NO, said, None)
    assert can(answers, "export --format trt --backend trt") == (Can.NO, said, None)
    assert can(answers, "export --format trt --backend trt-rtx")[2] == 'pip install "mimi-edge[rtx]"'


def test_a_device_without_the_training_part_is_healthy_and_told_the_line() -> None:
    answers = good_machine() | dict.fromkeys((*TRAINING, "matplotlib"), ABSENT)
    diagnosis = diagnosis_of(answers)
    assert diagnosis.healthy
    assert [(one.state, one.line) for one in diagnosis.findings] == [
        (State.MISSING, 'pip install "mimi-edge[train]"'),
        (State.MISSING, 'pip install "mimi-edge[report]"'),
    ]
    assert diagnosis.findings[0].text == "torch, torchvision, timm and onnxscript are not installed."
    assert can(answers, "train, plan")[0] is Can.NO
    assert can(answers, "export --format onnx")[0] is Can.PARTLY
    assert can(answers, "predict, profile --backend ort-cpu")[0] is Can.YES


def test_a_core_without_one_of_its_libraries_can_do_nothing() -> None:
    answers = good_machine(numpy=ABSENT, yaml=failed("import", "ImportError: bad"))
    answers |= {"onnx": failed("import", "needs numpy"), "power": failed("import", "needs numpy")}
    answers |= {"machine": failed("import", "needs numpy"), "ort-cpu": failed("import", "needs numpy", built_in=True)}
    diagnosis = diagnosis_of(answers)
    assert not diagnosis.healthy
    assert [one.command for one in diagnosis.abilities] == ["all commands"]
    assert diagnosis.abilities[0].can is Can.NO
    by_topic = {one.topic: one for one in diagnosis.findings}
    assert set(by_topic) == {"core", "yaml", "onnx"}
    assert by_topic["core"].line == "pip install --force-reinstall mimi-edge"
    assert by_topic["onnx"].line is None
    assert "numpy is broken or missing" in by_topic["onnx"].text


def test_one_broken_library_is_blamed_for_those_that_need_it() -> None:
    crash = Answer(installed("torch", "2.6.0").facts, Failure("crashed", "it crashes the process (SIGSEGV)", "oh no"))
    answers = good_machine(torch=crash, torchvision=failed("import"), timm=failed("import"))
    answers |= {"torch.cuda": failed("crashed")}
    broken = {one.topic: one for one in findings(answers) if one.state is State.BROKEN and one.line}
    assert broken["torch"].line == 'pip install --force-reinstall --no-deps "torch==2.6.0"'
    assert "SIGSEGV" in broken["torch"].text
    assert "it said: oh no" in broken["torch"].text
    assert {"torchvision", "timm"} <= {one.topic for one in findings(answers) if one.line is None}
    assert can(answers, "train, plan") == (Can.NO, "torch, torchvision and timm broken", broken["torch"].line)


def test_a_module_in_the_way_is_to_be_moved_and_not_installed_again() -> None:
    known = {"distributions": {"torch": "2.6"}, "installed": True, "at": "/p/torch/__init__.py"}
    answer = failed("error", "boom", **known, shadows=True)
    finding = only(good_machine(torch=answer))
    assert finding.line == "mv /p/torch /p/torch.aside"
    assert "hides torch 2.6" in finding.text


def test_what_pip_lists_and_python_does_not_find_is_broken() -> None:
    finding = only(good_machine(timm=Answer({"distributions": {"timm": "1.0.15"}, "installed": False})))
    assert (finding.state, finding.topic) == (State.BROKEN, "timm")
    assert finding.line == 'pip install --force-reinstall --no-deps "timm==1.0.15"'


@pytest.mark.parametrize(("has_gpu", "part"), [(False, "cpu"), (True, "gpu")])
def test_two_onnx_runtimes_at_once_are_broken(has_gpu: bool, part: str) -> None:
    both = Answer({"distributions": {"onnxruntime": "1.20", "onnxruntime-gpu": "1.19"}, "installed": True})
    machine = gpu_machine if has_gpu else good_machine
    finding = only(machine(onnxruntime=both))
    assert finding.state is State.BROKEN
    assert "onnxruntime 1.20 and onnxruntime-gpu 1.19 are both installed" in finding.text
    assert finding.line == f'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "mimi-edge[{part}]"'


def test_providers_are_judged_by_what_they_compute() -> None:
    assert only(good_machine(ort_cpu=Answer({"built_in": True, "computes": False}))).state is State.BROKEN
    crashed = failed("crashed", "it crashes the process (SIGSEGV)", built_in=True)
    finding = only(gpu_machine(ort_cuda=crashed))
    assert (finding.state, finding.topic) == (State.BROKEN, "ONNX Runtime")
    assert "SIGSEGV" in finding.text
    assert can(gpu_machine(ort_cuda=crashed), "predict, profile --backend ort-cuda")[0] is Can.NO
    assert only(gpu_machine(ort_trt=failed("error", "libnvinfer.so.10", built_in=True))).state is State.WARNING
    for_cpu = gpu_machine(ort_cuda=Answer({"built_in": False}), ort_trt=Answer({"built_in": False}))
    assert only(for_cpu).state is State.MISSING
    assert only(for_cpu).line == 'pip uninstall -y onnxruntime && pip install "mimi-edge[gpu]"'


@pytest.mark.parametrize(
    "facts",
    [
        {"wheels": {"bindings": "10.9.0.34", "libs": "10.3.0.26"}, "version": "10.9.0.34", "library": "10.9.0"},
        {"wheels": {}, "version": "10.9.0", "library": "10.3.0"},
    ],
)
def test_bindings_and_libraries_of_two_versions_are_broken(facts: dict[str, object]) -> None:
    answers = gpu_machine(trt=Answer({"installed": True} | facts))
    finding = only(answers)
    assert (finding.state, finding.topic) == (State.BROKEN, "TensorRT")
    assert "10.9.0" in finding.text
    assert "10.3.0" in finding.text
    assert finding.line == 'pip install --force-reinstall "mimi-edge[trt]"'
    assert can(answers, "predict, profile --backend trt")[0] is Can.NO


def test_bindings_without_their_libraries_are_broken_even_without_a_gpu() -> None:
    finding = only(good_machine(trt=failed("error", "libnvinfer.so.10: cannot open", installed=True, wheels={})))
    assert (finding.state, finding.topic) == (State.BROKEN, "TensorRT")
    assert "libnvinfer.so.10" in finding.text


def test_a_builder_that_cannot_be_made_is_broken_where_there_is_a_gpu() -> None:
    finding = only(gpu_machine(trt__builder=failed("error", "out of memory")))
    assert finding.state is State.BROKEN
    assert "no builder can be made: out of memory" in finding.text


def test_tensorrt_on_a_jetson_comes_with_jetpack() -> None:
    jetson = gpu_machine(trt=Answer({"installed": False, "wheels": {}}))
    jetson["jetson"] = Answer({"is_jetson": True, "tools": {"nvpmodel": "/usr/sbin/nvpmodel"}, "fixed": True})
    by_topic = {one.topic: one for one in findings(jetson)}
    assert by_topic["TensorRT"].line == "sudo apt install nvidia-jetpack"
    assert by_topic["Jetson power"].line == 'pip install "mimi-edge[jetson]"'


JETSON = Answer({"is_jetson": True, "tools": {"nvpmodel": "/usr/sbin/nvpmodel"}, "fixed": True})
NOT_FOR_A_JETSON = ("mimi-edge[gpu]", "mimi-edge[trt]", "mimi-edge[rtx]", "nvidia-cuda-runtime", "--no-deps torch")


def jetson_without(**answers: Answer) -> Answers:
    """A Jetson on which some steps found something else than on a machine where all works."""
    return gpu_machine(jetson=JETSON, **answers)


@pytest.mark.parametrize(
    "answers",
    [
        jetson_without(onnxruntime=ABSENT, trt=Answer({"installed": False, "wheels": {}})),
        jetson_without(ort_cuda=Answer({"built_in": False}), ort_trt=Answer({"built_in": False})),
        jetson_without(trt=failed("error", "libnvinfer.so.10: cannot open", installed=True, wheels={})),
        jetson_without(cuda=Answer({"runtime": False, "why_not": "There is no CUDA runtime library here."})),
        jetson_without(onnxruntime=Answer({"distributions": {"onnxruntime": "1", "onnxruntime-gpu": "1"}})),
        jetson_without(trt_rtx=Answer({"installed": False, "wheels": {}})),
        {**jetson_without(), "torch.cuda": Answer({"built_for": None})},
    ],
)
def test_on_a_jetson_no_line_is_printed_that_cannot_work_there(answers: Answers) -> None:
    diagnosis = diagnosis_of(answers, ["inspect"])
    lines = [one.line for one in (*diagnosis.findings, *diagnosis.abilities) if one.line is not None]
    assert not [line for line in lines for part in NOT_FOR_A_JETSON if part in line]


def test_on_a_jetson_the_gpu_is_that_of_tensorrt() -> None:
    for_cpus = jetson_without(ort_cuda=Answer({"built_in": False}), ort_trt=Answer({"built_in": False}))
    finding = next(one for one in findings(for_cpus) if one.topic == "ONNX Runtime")
    assert "TensorRT uses the GPU here" in finding.text
    assert finding.line is None
    missing = jetson_without(trt_rtx=Answer({"installed": False, "wheels": {}}))
    assert can(missing, "export --format trt --backend trt-rtx")[1:] == (
        "it is not made for a Jetson; take --backend trt",
        None,
    )
    assert can(jetson_without(onnxruntime=ABSENT, ort_cpu=Answer()), "predict, profile --backend ort-cpu")[2] == (
        'pip install "mimi-edge[cpu]"'
    )


def test_power_tools_of_a_jetson() -> None:
    jetson = gpu_machine(
        jetson=Answer({"is_jetson": True, "tools": {"nvpmodel": None}, "fixed": False}),
        jtop=installed("jetson-stats", "4.3"),
        power=Answer({"meter": "VDD_IN from sysfs", "why_not": None, "jtop": "The jtop service does not answer."}),
    )
    lines = {one.line for one in findings(jetson)}
    assert lines == {"sudo systemctl start jtop", "sudo apt install nvidia-l4t-nvpmodel", "sudo jetson_clocks"}
    assert diagnosis_of(jetson).healthy


def test_a_driver_whose_gpu_cannot_be_used() -> None:
    unusable = Answer({"runtime": True, "why_not": "The NVIDIA driver is too old: the CUDA runtime is 13.0. Update."})
    assert "too old" in next(one for one in findings(gpu_machine(cuda=unusable)) if one.topic == "GPU").text
    hidden = gpu_machine(cuda=unusable, driver=Answer({"kernel": True, "library": True, "visible": ""}))
    finding = next(one for one in findings(hidden) if one.topic == "GPU")
    assert (finding.state, finding.line) == (State.WARNING, "unset CUDA_VISIBLE_DEVICES")
    container = good_machine(driver=Answer({"kernel": True, "library": False, "visible": None}))
    assert only(container).line == "docker run --gpus all ... (on a Jetson: --runtime nvidia)"
    crashing = gpu_machine(cuda=failed("crashed", "it crashes the process (SIGSEGV)"))
    assert not diagnosis_of(crashing).healthy


def test_torch_that_does_not_see_the_gpu() -> None:
    assert only(gpu_machine() | {"torch.cuda": Answer({"built_for": "13.0"})}).state is State.BROKEN
    assert only(gpu_machine() | {"torch.cuda": Answer({"built_for": None})}).state is State.WARNING
    assert only(gpu_machine() | {"torch.cuda": failed("error", "no kernel image")}).state is State.BROKEN


def test_folders() -> None:
    unwritable = Answer({"path": "/c", "free_bytes": 10**11, "why_not": "Permission denied"})
    finding = only(good_machine(cache=unwritable))
    assert (finding.state, finding.line) == (State.BROKEN, "export MIMI_EDGE_CACHE=FOLDER")
    assert can(good_machine(cache=unwritable), "export --format onnx")[0] is Can.PARTLY
    little = Answer({"path": "/c", "free_bytes": 5_000_000, "why_not": None})
    assert "5 MB are free" in only(good_machine(cache=little)).text
    assert only(good_machine(cache=little)).state is State.WARNING
    assert only(good_machine(working__folder=unwritable)).state is State.WARNING
    assert only(good_machine(cache=failed("hung", "it takes longer than 60 s"))).state is State.BROKEN


def test_an_old_library_and_an_untested_python_are_warnings() -> None:
    old = only(good_machine(torch=installed("torch", "2.5.0a0+872d972e41.nv24.08")))
    assert (old.state, old.line) == (State.WARNING, f'pip install --upgrade "torch>={least_versions()["torch"]}"')
    assert only(good_machine(machine=Answer({"python": "3.15.0"}))).state is State.WARNING


def test_the_worst_comes_first() -> None:
    answers = good_machine(timm=ABSENT, machine=Answer({"python": "3.15.0"}), yaml=failed())
    assert [one.state for one in findings(answers)] == [State.BROKEN, State.WARNING, State.MISSING]


def test_every_library_is_one_that_our_metadata_asks_for() -> None:
    asked = {text.split(">")[0].split(";")[0].strip().lower() for text in requires("mimi-edge") or ()}
    named = {name for library in LIBRARIES for name in library.distributions}
    assert named <= asked
    assert named - {"onnxruntime-gpu"} <= set(least_versions())
    names = {library.name for library in LIBRARIES}
    assert {need for library in LIBRARIES for need in library.needs} <= names


def test_versions_are_compared_by_their_figures() -> None:
    assert numbers("2.10.0+cu126") > numbers("2.9")
    assert numbers("2.6.0.dev20250101") == (2, 6, 0)
    assert numbers("unknown") == ()


STEPS = [step.name for group in all_groups() for step in group]
ANY_ANSWER = st.one_of(
    st.just(Answer()),
    st.builds(failed, st.sampled_from(("error", "import", "crashed", "ended", "hung")), st.text(max_size=30)),
    st.builds(lambda kind: failed(kind, "bad", installed=True, built_in=True), st.sampled_from(("import", "crashed"))),
    st.just(ABSENT),
    st.just(installed("x", "1.0")),
)


@given(st.dictionaries(st.sampled_from(STEPS), ANY_ANSWER), st.sampled_from([good_machine, gpu_machine]))
def test_no_answer_is_too_odd_for_a_diagnosis(changes: dict[str, Answer], machine: object) -> None:
    answers = machine() | changes  # type: ignore[operator]
    diagnosis = diagnosis_of(answers, ["train", "inspect"])
    document = document_of(diagnosis)
    assert document["healthy"] == (not any(one["state"] == "broken" for one in document["findings"]))
    assert document["commands"]
    assert all(one.text.strip() for one in diagnosis.findings)


def test_nothing_at_all_is_known() -> None:
    assert diagnosis_of({}).abilities[0].can is Can.NO
    assert NO_GPU.startswith("There is no NVIDIA driver")


def test_onnx_runtime_built_for_another_numpy_gets_the_line_that_mends_it() -> None:
    line = 'pip install "numpy<2" "onnxruntime==1.18.0"'
    misfit = {"text": "onnxruntime 1.18.0 was built for NumPy 1.", "line": line}
    facts = {"distributions": {"onnxruntime": "1.18.0"}, "installed": True, "numpy_misfit": misfit}
    broken = failed("import", "ImportError", **facts)
    answers = good_machine(onnxruntime=broken, ort_cpu=failed("import", "ImportError"))
    finding = next(one for one in findings(answers) if one.topic == "onnxruntime")
    assert (finding.state, finding.text, finding.line) == (State.BROKEN, misfit["text"], line)
    assert can(answers, "predict, profile --backend ort-cpu")[2] == line

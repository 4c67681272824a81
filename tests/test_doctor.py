"""The doctor finds each fault that is planted, and nothing where all is well."""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from unet_tutorial import doctor
from unet_tutorial.doctor import Check, Child

Usage = namedtuple("Usage", "total used free")
LINE = "7f00-7f01 r-xp 0000 08:01 77 {}\n"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="it reads what Linux has")


@pytest.fixture(autouse=True)
def fresh():
    doctor._import_all.cache_clear()
    yield
    doctor._import_all.cache_clear()


def versions(monkeypatch, needs=(), **installed):
    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: list(needs))


def test_a_torchvision_made_for_another_torch(monkeypatch):
    installed = {"torch": "2.10.0", "torchvision": "0.24.0", "numpy": "2.1.3"}
    versions(monkeypatch, ["numpy", "torch==2.9.0", "pillow>=5"], **installed)
    check = doctor.check_versions()
    assert check.verdict == "wrong" and "made for 2.9.0" in check.seen
    assert "torch torchvision" in check.remedy


@pytest.mark.parametrize("due", ["torch==2.10.0", "torch (==2.10)", "torch>=2.4"])
def test_a_torchvision_made_for_this_torch(monkeypatch, due):
    installed = {"torch": "2.10.0", "torchvision": "0.25.0", "numpy": "2.1.3"}
    versions(monkeypatch, [due], **installed)
    assert doctor.check_versions().verdict == "fine"


def test_2_10_is_not_2_1(monkeypatch):
    installed = {"torch": "2.10.0", "torchvision": "0.16.0", "numpy": "2.1.3"}
    versions(monkeypatch, ["torch==2.1.0"], **installed)
    assert doctor.check_versions().verdict == "wrong"


def test_a_cpu_build_beside_a_cuda_build(monkeypatch):
    installed = {"torch": "2.11.0+cpu", "torchvision": "0.26.0+cu128", "numpy": "2.1.3"}
    versions(monkeypatch, ["torch==2.11.0"], **installed)
    check = doctor.check_versions()
    assert check.verdict == "warning" and "+cu128" in check.seen


def test_no_torchvision_is_fine(monkeypatch):
    versions(monkeypatch, torch="2.11.0+cpu", numpy="2.1.3")
    assert doctor.check_versions().verdict == "fine"


def test_a_torch_that_cannot_read_numpy(monkeypatch):
    def refuse(_):
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch, "from_numpy", refuse)
    check = doctor.check_versions()
    assert check.verdict == "wrong" and "numpy<2" in check.remedy


def plant(monkeypatch, code=0, out="", err=""):
    monkeypatch.setattr(doctor, "run_child", lambda *_: Child(code, out, err))


def test_the_package_that_fails_at_import_is_named(tmp_path, monkeypatch):
    text = 'raise RuntimeError("operator broken::nms does not exist")'
    (tmp_path / "broken_one.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "PACKAGES", ["json", "broken_one", "csv"])
    check = doctor.check_imports()
    assert check.verdict == "wrong" and "broken::nms" in check.seen
    assert check.seen.startswith("broken_one:") and "broken_one" in check.remedy


def test_the_package_that_dies_at_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "deadly_one.py").write_text("import ctypes; ctypes.string_at(1)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "PACKAGES", ["json", "not_installed", "deadly_one"])
    check = doctor.check_imports()
    assert check.verdict == "wrong" and check.seen.startswith("deadly_one: ")


def test_runtimes_among_the_loaded_files():
    names = ["torch/lib/libgomp.so.1", "a b/libiomp5.so", "x/libomp-1a.dylib"]
    others = ["numpy.libs/libopenblas-1.so", "x/libcomp.so", "/dev/zero", ""]
    found = doctor.openmp_runtimes("".join(LINE.format(n) for n in names + others))
    assert found == dict(zip(names, ["GNU", "Intel/LLVM", "Intel/LLVM"], strict=True))
    windows = "C:\\x\\libiomp5md.dll\nC:\\y\\vcomp140.dll"
    assert list(doctor.openmp_runtimes(windows).values()) == ["Intel/LLVM", "Microsoft"]
    assert list(doctor.openmp_runtimes("/a b/c d/lib/libomp.dylib").values())


@LINUX
@pytest.mark.parametrize(
    ("names", "verdict"),
    [
        (["libgomp.so.1"], "fine"),
        (["libgomp.so.1", "libgomp-e98.so.1"], "fine"),
        (["libgomp.so.1", "libiomp5.so"], "warning"),
        (["libomp.so", "libiomp5.so"], "wrong"),
        ([], "fine"),
    ],
)
def test_two_openmp_runtimes(monkeypatch, names, verdict):
    monkeypatch.delenv("KMP_DUPLICATE_LIB_OK", raising=False)
    plant(monkeypatch, out="import torch\n" + "".join(map(LINE.format, names)))
    check = doctor.check_openmp()
    assert check.verdict == verdict
    assert all(name in check.seen for name in names)


@LINUX
def test_a_hushed_openmp(monkeypatch):
    plant(monkeypatch, out=LINE.format("libgomp.so.1"))
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "TRUE")
    check = doctor.check_openmp()
    assert check.verdict == "warning" and "KMP_DUPLICATE_LIB_OK" in check.remedy


@pytest.mark.parametrize(
    ("total", "free", "verdict"),
    [(2**26, 2**20, "wrong"), (2**28, 2**28, "warning"), (2**33, 2**33, "fine")],
)
def test_shared_memory(monkeypatch, total, free, verdict):
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    usage = Usage(total, total - free, free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    check = doctor.check_shared_memory()
    assert check.verdict == verdict and ("--shm-size" in check.remedy) != (
        verdict == "fine"
    )


def test_no_shared_memory_to_look_at(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    assert doctor.check_shared_memory().verdict == "fine"


@pytest.mark.parametrize(
    ("free", "verdict"), [(2**20, "wrong"), (2**31, "warning"), (2**40, "fine")]
)
def test_disk(monkeypatch, free, verdict):
    usage = Usage(2**41, 0, free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.check_disk().verdict == verdict


@pytest.mark.parametrize(("limit", "verdict"), [(256, "warning"), (-1, "fine")])
def test_open_files(monkeypatch, limit, verdict):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert doctor.check_open_files().verdict == verdict


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    check = doctor.check_threads()
    assert check.verdict == "warning" and "OMP_NUM_THREADS=2" in check.remedy
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert doctor.check_threads().verdict == "fine"


@LINUX
def test_the_quota_of_a_container_counts(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(doctor.Path, "read_text", lambda *_: "150000 100000\n")
    assert doctor.usable_cores() == 1.5
    monkeypatch.setattr(doctor.Path, "read_text", lambda *_: "max 100000\n")
    assert doctor.usable_cores() == 8


@pytest.mark.parametrize(
    ("method", "cuda", "verdict"),
    [("fork", True, "warning"), ("spawn", True, "fine"), ("spawn", False, "fine")],
)
def test_start_method(monkeypatch, method, cuda, verdict):
    name = "get_start_method"
    monkeypatch.setattr(multiprocessing, name, lambda allow_none: method)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: cuda)
    assert doctor.check_start_method().verdict == verdict


@pytest.mark.parametrize(
    ("driver", "built", "verdict", "word"),
    [
        ("535.1", "13.0", "wrong", "update the driver"),
        ("535.1", None, "warning", "CUDA build"),
        ("", None, "fine", ""),
        ("", "13.0", "fine", ""),
    ],
)
def test_cuda(monkeypatch, driver, built, verdict, word):
    done = SimpleNamespace(returncode=0, stdout=driver + "\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    check = doctor.check_cuda()
    assert check.verdict == verdict and word in check.remedy


@pytest.mark.parametrize(("own", "verdict"), [((3, 5), "wrong"), ((9, 0), "fine")])
def test_a_gpu_too_old_for_this_torch(monkeypatch, own, verdict):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: own)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    assert doctor.check_cuda().verdict == verdict


def test_a_worker_of_this_machine():
    check = doctor.check_worker()
    assert check.verdict in ("fine", "warning") and "torch 1" in check.seen


@pytest.mark.parametrize(
    ("out", "verdict"), [("1 16\n", "warning"), ("1 1\n", "fine"), ("1\n", "fine")]
)
def test_threads_in_a_worker(monkeypatch, out, verdict):
    plant(monkeypatch, out=out)
    check = doctor.check_worker()
    assert check.verdict == verdict and ("setNumThreads" in check.remedy) == (
        verdict == "warning"
    )


def test_a_worker_that_hangs_or_dies(monkeypatch):
    err = 'Timeout (0:00:40)!\nThread 0x1 (most recent call first):\n  File "/a/q.py", '
    plant(monkeypatch, 1, "", err + "line 3 in get")
    check = doctor.check_worker()
    assert check.verdict == "wrong" and check.seen == "no end < q.py, line 3 in get"


def test_a_training_of_this_machine():
    check = doctor.check_training()
    assert check.verdict == "fine" and "done on" in check.seen


def test_a_training_that_dies_of_a_segmentation_fault(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import ctypes\ndef step():\n    ctypes.string_at(1)\nstep()\n")
    check = doctor.check_training(script)
    assert check.verdict == "wrong" and "train.py, line 3 in step" in check.seen
    assert check.seen.split(" < ")[0] in ("SIGSEGV", "SIGBUS", "access violation")
    assert check.seen.index("line 3") < check.seen.index("line 4")
    assert str(tmp_path) not in check.seen and check.remedy


def test_a_script_that_lives_is_fine(tmp_path):
    (tmp_path / "train.py").write_text("print('x')")
    assert doctor.check_training(tmp_path / "train.py").verdict == "fine"


def check_that_fails():
    raise OSError("no such thing\nat all")


def check_full_disk():
    return Check("disk", "wrong", "12 MB\nfree", "delete runs")


def test_one_check_cannot_stop_the_others(monkeypatch):
    checks = (check_that_fails, check_full_disk)
    monkeypatch.setattr(doctor, "CHECKS", checks)
    found = doctor.run_checks()
    assert [check.verdict for check in found] == ["warning", "wrong"]
    assert found[0].name == "that fails" and "no such thing" in found[0].seen
    assert doctor.exit_status(found) == 1 and doctor.exit_status(found[:1]) == 0
    lines = doctor.report(found).splitlines()
    assert len(lines) == 2 and lines[1].startswith("wrong ")
    assert "12 MB free -> delete runs" in lines[1]


def test_json_holds_the_same():
    checks = [Check("a", "fine", 'b "c"'), Check("d", "wrong", "e", "f")]
    read = json.loads(doctor.report(checks, as_json=True))
    assert [Check(**entry) for entry in read] == checks


def test_every_check_is_in_the_report():
    names = {name for name in vars(doctor) if name.startswith("check_")}
    assert {check.__name__ for check in doctor.CHECKS} == names


def test_importing_the_doctor_needs_torch_and_numpy_alone():
    program = "import sys, unet_tutorial.doctor; print(*sys.modules)"
    loaded = doctor.run_child("-c", program).out.split()
    assert not {"torchvision", "cv2", "matplotlib", "albumentations"} & set(loaded)

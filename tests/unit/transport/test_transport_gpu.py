"""The GPU: without one, its kernel in a simulator and compiled to PTX; the errors; with one, the same histories."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu_simulated import box
from test_transport_run import FIELD, machine

from mrlinac import jit, transport
from mrlinac.errors import DeviceError, MissingExtraError, PhysicsError
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence

ROOT = Path(__file__).resolve().parents[3]
INSTALLED = importlib.util.find_spec("numba_cuda") is not None
needs_numba_cuda = pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed (extra gpu)")


def has_device() -> bool:
    try:
        return INSTALLED and bool(jit.cuda_device())
    except DeviceError:
        return False


def beam() -> Fluence:
    lattice = np.array([(i, j) for i in range(-2, 2) for j in range(-2, 2)], np.int32)
    maps = (BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), lattice, (5.0, 10.0)),)
    return Fluence(maps, (np.ones(len(lattice)),))


# -- what is said where something is missing ---------------------------------------------------------


def test_without_numba_cuda_the_pip_line_is_named(monkeypatch):
    monkeypatch.setattr(jit.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "mrlinac\[gpu\]"'):
        transport.dose(box(), beam(), machine(), field_xyz_T=FIELD, photons=1000, device="gpu")


@needs_numba_cuda
@pytest.mark.skipif(has_device(), reason="there is a CUDA device")
def test_without_a_device_the_error_says_so():
    with pytest.raises(DeviceError, match=r"No CUDA device[\s\S]*'cpu'"):
        transport.dose(box(), beam(), machine(), field_xyz_T=FIELD, photons=1000, device="gpu")


@pytest.mark.skipif(has_device(), reason="there is a CUDA device")
def test_the_command_refuses_before_it_reads_a_patient(tmp_path):
    typed = [sys.executable, "-m", "mrlinac", "plan", "demo", "--device", "gpu"]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ("No CUDA device" if INSTALLED else 'pip install "mrlinac[gpu]"') in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_word_is_refused():
    with pytest.raises(PhysicsError, match="'cpu' or 'gpu'"):
        transport.dose(box(), beam(), machine(), field_xyz_T=FIELD, photons=1000, device="tpu")
    with pytest.raises(PhysicsError, match="on the processor"):
        transport.influence(box(), beam().maps, machine(), field_xyz_T=FIELD, photons_per_beamlet=10, device="gpu")


def test_the_processor_says_so():
    made = transport.dose(box(), beam(), machine(), field_xyz_T=FIELD, photons=1000, batches=12, threads=1)
    assert made.provenance.device == "cpu"


@needs_numba_cuda
def test_what_does_not_fit_is_refused():
    from mrlinac.transport import gpu

    needed = gpu.bytes_needed(10**9, 3000, 132 * 2048)
    assert needed > 12e9
    with pytest.raises(DeviceError, match="coarser or smaller grid"):
        gpu.check_memory(needed, 8e9, 10**9)
    gpu.check_memory(gpu.bytes_needed(10**7, 3000, 132 * 2048), 8e9, 10**7)


# -- the kernel without a GPU ------------------------------------------------------------------------


@needs_numba_cuda
def test_simulated_kernel_follows_the_processors_histories():
    done = subprocess.run(
        [sys.executable, "-W", "ignore::RuntimeWarning", str(Path(__file__).with_name("gpu_simulated.py")), "40"],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for field in ("1.5 T", "0 T"):
        one = said[field]
        assert one["sums"][0] > 10
        assert one["largest difference of a batch"] < 1e-5
        assert one["sums"][1] == pytest.approx(one["sums"][0], rel=1e-6)
        assert one["counters"][0] == one["counters"][1]
        assert one["counters"][0][:2] > [300, 300]
        assert one["energies"][1] == pytest.approx(one["energies"][0], rel=1e-9)
    dose = said["dose"]
    assert dose["devices"] == ["cpu", "gpu: simulator"]
    assert dose["histories"][0] == dose["histories"][1] < 300  # both stop at the same batch, before the last
    assert dose["fingerprints differ"]
    assert dose["difference"] < 1e-5


@needs_numba_cuda
def test_kernel_compiles_to_ptx(tmp_path):
    tool, ptx = ROOT / "tools" / "gpu_kernel.py", tmp_path / "kernel.ptx"
    for capability in ("8.0", "9.0"):
        done = subprocess.run(
            [sys.executable, str(tool), "--cc", capability, "--out", str(ptx)],
            env={name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and ("NvvmSupportError" in done.stderr or "DynamicLibNotFoundError" in done.stderr):
            # Whatever numba does not know fails before NVIDIA's libraries are asked for, for any card.
            pytest.skip(
                "numba compiled the kernel; NVIDIA's libraries, which make PTX of it, are not installed (extra gpu)"
            )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["target"] == "sm_" + capability.replace(".", "")
        text = ptx.read_text()
        assert "atom.global.add.f64" in text or "red.global.add.f64" in text
        if "registers" in said:  # an assembler is at hand
            assert said["registers"] < 255
            assert said["spill_store_bytes"] == said["spill_load_bytes"] == 0
            assert said["stack_bytes"] < 4096


@needs_numba_cuda
def test_names_of_the_cards_attributes_are_the_drivers():
    driver = pytest.importorskip("cuda.bindings.driver")
    for name in ("MULTIPROCESSOR_COUNT", "MAX_THREADS_PER_MULTIPROCESSOR"):
        assert hasattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")


# -- with a GPU --------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not has_device(), reason="no CUDA device")
def test_gpu_agrees_with_the_processor():
    """The same histories: nearly all equal to rounding, so the doses agree far within their noise."""
    cpu, gpu = (
        transport.dose(
            box(), beam(), machine(), field_xyz_T=FIELD, photons=2_000_000, batches=12, device=device
        )
        for device in ("cpu", "gpu")
    )  # fmt: skip
    assert gpu.provenance.device.startswith("gpu: ")
    assert gpu.provenance.histories == cpu.provenance.histories
    high = cpu.dose_Gy > 0.2 * cpu.dose_Gy.max()
    sigma = cpu.rel_sigma[high] * cpu.dose_Gy[high]
    assert abs(gpu.dose_Gy.sum() / cpu.dose_Gy.sum() - 1) < 1e-4
    assert np.sqrt(np.mean(((gpu.dose_Gy - cpu.dose_Gy)[high] / sigma) ** 2)) < 0.3

"""Against EGSnrc, absolute per photon, nothing fitted; the phantom and regions of tests/data/egs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "egs.py"
spec = importlib.util.spec_from_file_location("benchmark_egs", SCRIPT)
egs = importlib.util.module_from_spec(spec)
sys.modules["benchmark_egs"] = egs
spec.loader.exec_module(egs)

SOURCE = "EGSnrc (DOSXYZnrc), absolute, nothing fitted: tests/data/egs"


def check(curve, scale_bar: float) -> None:
    """Scale within a bar plus three of its σ; no three neighbouring bins beyond 1 % of the maximum and 1 mm by 2σ."""
    scale, error = curve.scale()
    assert abs(scale - 1) < scale_bar + 3 * error, f"{curve.name}: scale {scale:.4f} ± {error:.4f}"
    assert curve.worst()[2] == 0, f"{curve.name}: {curve.worst()}"


@pytest.mark.parametrize("case", ["R2_10x10_B0", "R3_B1p5"])
def test_depth_dose_quick(case):
    curves, out = egs.depth_curves(case, 1_000_000)
    wide = curves[1]
    check(wide, 0.006)
    assert wide.scale()[1] < 0.0025  # so that an error of 2 % cannot pass …
    wide.ours = wide.ours * 1.02
    with pytest.raises(AssertionError):  # … and does not
        check(wide, 0.006)
    assert out.overflow == 0


@pytest.mark.validation
@pytest.mark.parametrize("case", egs.CASES)
def test_depth_and_profiles(case, claim):
    curves, _ = egs.depth_curves(case, 10_000_000, seed=3)
    scale, error = curves[1].scale()
    claim(
        f"egs-scale-{case}",
        f"{case}: dose per photon over EGSnrc's along the axis, mean above half of the maximum",
        SOURCE,
        "1 ± 0.006 and 3σ",
        scale,
        error,
    )
    claim(
        f"egs-worst-{case}",
        f"{case}: largest mean deviation of three neighbouring depth bins, of the maximum, both codes' noise included",
        SOURCE,
        "nowhere beyond 1 % or 1 mm by 2σ",
        curves[1].worst()[0],
        0.0,
        "%",
    )
    for curve in curves + egs.profile_curves(case, 20_000_000, seed=4):
        check(curve, 0.006)
        if " at " in curve.name:
            ours, theirs = egs.edges_at_half(curve, curve.ours), egs.edges_at_half(curve, curve.egs)
            assert ours == pytest.approx(theirs, abs=0.4)


@pytest.mark.validation
def test_interface_ratios(claim):
    depth = {case: egs.depth_curves(case, 40_000_000, seed=5)[0][1] for case in ("R3_B0", "R3_B1p5")}
    ours, theirs = egs.interface_ratios(depth, "ours"), egs.interface_ratios(depth, "egs")
    for name, (ratio, sigma) in ours.items():
        other, other_sigma = theirs[name]
        claim(
            f"egs-interface-{'-'.join(name.replace(',', '').split())}",
            f"1.5 T over 0 T, {name} (EGSnrc {other:.3f} ± {other_sigma:.3f})",
            SOURCE,
            "EGSnrc's ± 1.5 % and 2σ",
            ratio,
            sigma,
        )
        assert ratio == pytest.approx(other, abs=0.015 * other + 2 * (sigma**2 + other_sigma**2) ** 0.5), name

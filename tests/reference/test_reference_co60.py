"""Cobalt-60: the one radiotherapy beam whose primary spectrum is known from nuclear data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrlinac.machine import model

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCATTERED = 0.25
"""Share of the photons that come from scatter in source and head. Full models of teletherapy units have a quarter to a
third (Mora, Maio, Rogers, Med. Phys. 26:2494, 1999); their form is the simplest here, rising in a line with energy."""
BINS = {
    "lines": ((1.172, 1.174, 1.332, 1.334), (1.0, 0.0, 1.0)),
    "scattered": ((0.1, 0.3, 0.5, 0.7, 0.9, 1.17), (0.10, 0.15, 0.20, 0.25, 0.30)),
}


@pytest.mark.validation
def test_tpr_of_cobalt(monkeypatch, claim):
    """TPR20,10 of 10 × 10 cm² at the detector, source at 100 cm. The two lines alone are harder than a real unit."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from water_dose import depth_dose_at, on_axis, pencil, per_photon

    agility = model.load("agility")
    dose = {}
    for name, (edges, weight) in BINS.items():
        unit = per_photon(
            agility.model_copy(update={"electrons": None}),
            spectrum=model.Spectrum(edge_MeV=edges, weight=weight, source="nuclear data"),
            fluence=model.FluenceProfile(radius_mm=(0, 300), relative=(1, 1), source="point source"),
            spot_sigma_uv_mm=(0.0, 0.0),
            softening_per_100mm=0.0,
        )
        kernel = pencil(unit, 12e6 if name == "lines" else 4e6, repeats=8, seed=60, field=False)
        wet = (kernel.depth_mm > 0) & (kernel.depth_mm < 300)
        curves = on_axis(unit, kernel, 100.0)[:, wet]
        dose[name] = np.array([[depth_dose_at(kernel.depth_mm[wet], c, d) for d in (200, 100)] for c in curves])
    values = {"lines": dose["lines"], "mixed": (1 - SCATTERED) * dose["lines"] + SCATTERED * dose["scattered"]}
    ratio = {name: v[:, 0] / v[:, 1] for name, v in values.items()}
    mean = {name: float(r.mean()) for name, r in ratio.items()}
    sigma = {name: float(r.std(ddof=1) / np.sqrt(len(r))) for name, r in ratio.items()}
    claim(
        "beam-cobalt",
        "Co-60, TPR20,10, 10 × 10 cm² at the detector, SAD 100 cm; a quarter of the photons scattered in the head",
        "0.572: published Monte Carlo of Co-60 units, scatter from the head included",
        "0.572 ± 0.005",
        mean["mixed"],
        sigma["mixed"],
    )
    claim(
        "beam-cobalt-lines",
        "Co-60, the same with the lines of 1.17 and 1.33 MeV alone",
        "harder than a real unit: above 0.572",
        "0.572 … 0.592",
        mean["lines"],
        sigma["lines"],
    )
    assert sigma["mixed"] < 0.0025
    assert mean["mixed"] == pytest.approx(0.572, abs=0.005 + 2 * sigma["mixed"])
    assert 0.572 - 2 * sigma["lines"] < mean["lines"] < 0.592 + 2 * sigma["lines"]

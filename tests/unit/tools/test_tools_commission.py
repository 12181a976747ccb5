"""The arithmetic of the commissioning tool, without Monte Carlo."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.special import erf

PATH = Path(__file__).resolve().parents[3] / "tools" / "commission.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("commission", PATH)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["commission"] = module
    sys.path.insert(0, str(PATH.parent))  # as Python does for a script: its neighbours can be imported
    specification.loader.exec_module(module)
    return module


def test_spectrum_of_the_published_parameters_has_its_mean_energy(tool: ModuleType) -> None:
    # Ali and Rogers' Varian 6 MV parameters: mean photon energy 1.60 MeV.
    edges, weight = tool.binned(5.76, 1.222**2, 5.147**2, -1.186)
    assert weight.sum() == pytest.approx(1)
    assert edges[-1] == 5.76
    assert np.all(np.diff(edges) > 0)
    assert (edges[1:] + edges[:-1]) @ weight / 2 == pytest.approx(1.60, abs=0.01)


def test_more_aluminium_hardens_and_nothing_lies_above_the_endpoint(tool: ModuleType) -> None:
    energy = np.linspace(0.05, 8.0, 2000)
    soft, hard = (tool.ali_rogers(energy, 6.0, 1.5, al, -1.186) for al in (10.0, 30.0))
    assert np.average(energy, weights=hard) > np.average(energy, weights=soft)
    assert np.all(soft[energy >= 6.0] == 0)
    assert np.all(soft[energy < 5.99] > 0)


def test_penumbra_of_a_gaussian_edge(tool: ModuleType) -> None:
    x = np.arange(-80, 80.1, 0.5)
    sigma = 3.0
    profile = 0.5 * (erf((x + 50) / sigma / np.sqrt(2)) - erf((x - 50) / sigma / np.sqrt(2)))
    # 80-20 % of an error function: 2 × 0.8416 σ.
    assert tool.penumbra_mm(x, profile) == pytest.approx((2 * 0.8416 * sigma,) * 2, rel=2e-3)


def test_maximum_of_a_smooth_curve(tool: ModuleType) -> None:
    depth = np.arange(1.0, 100, 2.0)
    dose = np.exp(-depth / 200) - 0.8 * np.exp(-depth / 4)
    top, height = tool.smooth_maximum(depth, dose)
    expected = np.log(0.8 * 200 / 4) / (1 / 4 - 1 / 200)
    assert top == pytest.approx(expected, abs=0.5)
    assert height == pytest.approx(np.exp(-expected / 200) - 0.8 * np.exp(-expected / 4), rel=2e-3)


def test_rewriting_a_value_keeps_everything_else(tool: ModuleType) -> None:
    text = '# head\n[one]\nvalue = 1  # old\nother = "x"\n\n[one.two]\nvalue = 3\n\n[[three]]\nvalue = 4\n'
    new = tool.rewritten(text, "one.two", value="[1.5, 2.5]")
    assert tomllib.loads(new)["one"] == {"value": 1, "other": "x", "two": {"value": [1.5, 2.5]}}
    assert new.replace("value = [1.5, 2.5]", "value = 3") == text
    with pytest.raises(KeyError, match=r"one\.missing"):
        tool.rewritten(text, "one", missing="1")

"""Fit a machine file to its references by Monte Carlo in water, and say how well it does.

Three steps, each a subcommand; results land in the machine file (``--write``) or only on the screen::

    python tools/commission.py basis agility out/agility.npz      # depth doses of single energies (minutes)
    python tools/commission.py fit agility out/agility.npz        # spectrum, contaminant electrons (seconds)
    python tools/commission.py verify agility                     # full model against its references, calibration

The spectrum is that of Ali and Rogers (PMB 57:31, 2012): bremsstrahlung of an end-point energy behind tungsten and
aluminium. A depth dose is linear in the spectrum, so the fit mixes depth doses of single energies, each computed
once by the product's own Monte Carlo with the machine's own geometry and field.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrlinac.transport import materials

Array = NDArray[np.float64]

LOWEST_MeV = 0.05  # nothing below passes the filter
BIN_MeV = 0.25


def ali_rogers(energy_MeV: ArrayLike, endpoint_MeV: float, tungsten: float, aluminium: float, shape: float) -> Array:
    """Photon number spectrum (per MeV, arbitrary scale) of Ali and Rogers' form.

    Energy fluence [1 + C3 x + x²] [ln(Ee (Ee − E)/E + 1.65) − 0.5] exp(−μ_W C1² − μ_Al C2²) with x = E/Ee: PMB 57:31
    (2012), their equation with four parameters; ``tungsten`` = C1² and ``aluminium`` = C2² in g/cm2, ``shape`` = C3.
    """
    energy = np.asarray(energy_MeV, float)
    x = np.minimum(energy / endpoint_MeV, 1.0)
    bremsstrahlung = np.log(endpoint_MeV * (endpoint_MeV - endpoint_MeV * x) / energy + 1.65) - 0.5
    filtered = np.exp(
        -materials.photon("tungsten", energy).total * tungsten
        - materials.photon("aluminium", energy).total * aluminium
    )
    psi = (1 + shape * x + x**2) * bremsstrahlung * filtered
    return np.where(energy < endpoint_MeV, psi / energy, 0.0)


def binned(endpoint_MeV: float, tungsten: float, aluminium: float, shape: float) -> tuple[Array, Array]:
    """Bin edges in MeV, and the share of the photons in each bin."""
    edges = np.append(np.arange(0.0, endpoint_MeV - 1e-9, BIN_MeV), endpoint_MeV)
    edges[0] = LOWEST_MeV
    weight = []
    for low, high in itertools.pairwise(edges):
        energy = np.linspace(low, high, 401)
        weight.append(np.trapezoid(ali_rogers(energy, endpoint_MeV, tungsten, aluminium, shape), energy))
    return edges, np.array(weight) / np.sum(weight)

"""One small result, made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Certificate, Fluence
from mrlinac.notes import Notes
from mrlinac.provenance import Provenance
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import load_plan

GRID = Grid((4, 4, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
ONES = np.ones(GRID.shape_zyx, np.float32)


def make_planned(
    gray=66.0, status="optimal", limit=10.0, verdict="pass", numerics="final", **made_from
) -> PlanResult:
    """A plan of one target with one hard limit (9 Gy reached) and one goal (8 Gy reached, 7 or 9 asked for)."""
    spec = load_plan("demo", {"numerics": numerics})
    structures = StructureSet(GRID, {"PTV_eval": Structure("PTV_eval", "target", ONES)})
    dose = Dose(GRID, np.float32(gray) * ONES, None, 33, Provenance("made", "test"))
    limits = {"name": ["Cord upper_tail 0.1 cc"], "value": [9.0], "raw": [9.0], "sigma": [0.25], "limit": [limit]}
    asked = {"pass": 9.0, "near": 7.9, "fail": 7.0}[verdict]
    goal = {"structure": ["Heart"], "metric": ["mean"], "value": [8.0], "unit": ["Gy"], "limit": [asked]}
    beamlets = BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), np.zeros((1, 2), np.int32), (5.0, 5.0))
    return PlanResult(
        spec=spec, label="x", patient=None, ct=Image(GRID, 0 * ONES), structures=structures,
        medium=Medium(GRID, ONES, np.zeros(GRID.shape_zyx, np.uint8), ("water",)), isocentre_xyz_mm=(0.0, 0.0, 0.0),
        field_xyz_T=(0.0, 0.0, 1.5), dose=dose, history=pd.DataFrame(), timing=pd.DataFrame(), notes=Notes(),
        fluence=Fluence((beamlets,), (np.ones(1),), Certificate("s", status, 1.0, 1.0, 0.0)), statements=(),
        made_from={"fingerprint": "f", **made_from}, skin=pd.DataFrame(),
        goals=pd.DataFrame(goal).assign(verdict=verdict, sigma=np.nan, direction="<="),
        constraints=pd.DataFrame(limits).assign(met=limit >= 9, dual=0.0, source=""),
    )  # fmt: skip


@pytest.fixture
def planned():
    """:func:`make_planned`."""
    return make_planned

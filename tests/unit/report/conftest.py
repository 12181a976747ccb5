"""A small analytic body with a smooth analytic dose: everything a report needs, nothing computed by an engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from dicompylercore.dvh import DVH

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Certificate, Fluence
from mrlinac.notes import Note, Notes
from mrlinac.provenance import Provenance
from mrlinac.report.content import ReportContent

PRESCRIPTION_Gy = 66.0
ISOCENTRE_xyz_mm = (-40.0, 5.0, 12.0)


def ellipse(grid: Grid, centre_xyz, radii_xyz, softness: float = 0.5):
    """Occupancy of an ellipsoid with an edge about one voxel wide."""
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    parts = [((v - c) / r) ** 2 for v, c, r in zip((x, y, z), centre_xyz, radii_xyz, strict=True)]
    distance = (np.sqrt(sum(parts)) - 1) * min(radii_xyz) / max(grid.spacing_zyx_mm)
    return np.clip(softness - distance, 0, 1).astype(np.float32)


def cumulative_dvh(dose: Dose, structure: Structure) -> DVH:
    """Occupancy-weighted cumulative DVH; the product's own lives in the dose room."""
    bins = np.arange(0, float(dose.dose_Gy.max()) + 0.2, 0.1)
    counts = np.histogram(dose.dose_Gy, bins, weights=structure.occupancy)[0] * dose.grid.voxel_cc
    return DVH(counts, bins, dvh_type="differential", name=structure.name).cumulative


def make_content(*, shift_mm: float = 0.0, exit_skin_Gy: float = 0.0, title: str = "Analytic body") -> ReportContent:
    """A body of ellipses; the dose is a soft-edged ball at the target plus a cross of soft beams."""
    grid = Grid((30, 50, 66), (5.0, 5.0, 5.0), (-162.5, -122.5, -60.0))
    far = (0.0, 0.0, 0.0)
    body = ellipse(grid, far, (150, 105, 1e6))
    inner = ellipse(grid, far, (145, 100, 1e6))
    shapes = {
        "External": ("external", body),
        "Skin": ("other", body - inner),
        "PTV": ("target", ellipse(grid, (-55, 0, 12), (27, 27, 27))),
        "CTV": ("target", ellipse(grid, (-55, 0, 12), (20, 20, 20))),
        "Lung_R": ("oar", ellipse(grid, (-70, 0, 10), (50, 70, 110))),
        "Lung_L": ("oar", ellipse(grid, (70, 0, 10), (50, 70, 110))),
        "Heart": ("oar", ellipse(grid, (20, -35, -20), (40, 35, 40))),
        "SpinalCord": ("oar", ellipse(grid, (0, 70, 0), (7, 7, 1e6))),
    }
    structures = StructureSet(grid, {n: Structure(n, role, occ) for n, (role, occ) in shapes.items()})
    ct_grid = Grid((24, 100, 132), (5.0, 2.5, 2.5), (-163.75, -123.75, -45.0))
    hu = np.full(ct_grid.shape_zyx, -1000.0, np.float32)
    hu[ellipse(ct_grid, far, (150, 105, 1e6)) > 0.5] = 40
    for centre in ((-70, 0, 10), (70, 0, 10)):
        hu[ellipse(ct_grid, centre, (50, 70, 110)) > 0.5] = -750
    hu[ellipse(ct_grid, (-55, 0, 12), (20, 20, 20)) > 0.5] = 30
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    r = np.sqrt((x + 55 - shift_mm) ** 2 + y**2 + (z - 12) ** 2)
    field = np.exp(-(((z - 12) / 35) ** 8))
    cross = field * (np.exp(-(((x + 55) / 30) ** 6)) + np.exp(-((y / 30) ** 6))) * 18
    gray = 48 / (1 + np.exp((r - 31) / 3)) + cross + exit_skin_Gy * (body - inner) * field * (x > 0)
    gray = (gray * (body > 0)).astype(np.float32)
    dose = Dose(grid, gray, np.full(grid.shape_zyx, 0.015, np.float32), 33, Provenance("0" * 32, "analytic"))
    maps, mu = [], []
    for gantry in (20, 60, 100, 140, 180, 220, 260, 300, 340):
        i, j = np.meshgrid(np.arange(-9, 6), np.arange(-5, 5), indexing="ij")
        keep = ((i + 2) / 7) ** 2 + (j / 5) ** 2 < 1
        maps.append(
            BeamletMap(
                Beam(gantry, ISOCENTRE_xyz_mm, 1435.0), np.stack([i[keep], j[keep]], 1).astype(np.int32), (5.0, 7.15)
            )
        )
        mu.append(2 + np.sin(i[keep] / 2.0 + gantry) * np.cos(j[keep] / 2.0))
    names = [n for n in shapes if n not in ("Skin",)]
    square = np.array([[-75.0, -20], [-35, -20], [-35, 20], [-75, 20]])
    goals = pd.DataFrame(
        [
            ("PTV", "D50%", 66.0, "Gy", 66.0, "", "pass", 0.0, "ICRU 83"),
            ("PTV", "D95%", 61.9, "Gy", 62.7, "at least", "near", -0.8, "ICRU 83"),
            ("SpinalCord", "D0.1cc", 21.4, "Gy", 48.0, "at most", "pass", 26.6, "a source"),
            ("Lung_R", "V20Gy[%]", 38.2, "%", 35.0, "at most", "fail", -3.2, "a source, <2 lines> & more"),
            ("Heart", "mean", 6.31, "Gy", float("nan"), "", "report", float("nan"), ""),
        ],
        columns=["structure", "metric", "value", "unit", "limit", "direction", "verdict", "margin", "source"],
    ).assign(raw=[66.0, 61.4, 21.9, 38.2, 6.31], sigma=[0.1, 0.25, 0.4, float("nan"), 0.02])
    skin = pd.DataFrame(
        [
            ("D2cc (5 mm)", "whole", 30.1 + exit_skin_Gy, "Gy", 0.1),
            ("mean (5 mm)", "whole", 6.4 + exit_skin_Gy / 5, "Gy", 0.02),
            ("D2cc (5 mm)", "posterior", 22.0, "Gy", 0.12),
        ],
        columns=["metric", "region", "value", "unit", "sigma"],
    ).assign(raw=[30.7, 6.4, 22.6])
    models = pd.DataFrame(
        [
            (
                "pneumonitis-a",
                "NTCP",
                "pneumonitis",
                "Lung_R",
                20.6 + exit_skin_Gy,
                "%",
                0.3,
                "report",
                "",
                "a paper, 2010",
            ),
            (
                "control-b",
                "TCP",
                "local control",
                "GTV",
                float("nan"),
                "%",
                float("nan"),
                "absent",
                "no GTV",
                "one, 1999",
            ),
        ],
        columns=[
            "model",
            "quantity",
            "endpoint",
            "structure",
            "value",
            "unit",
            "sigma",
            "verdict",
            "reason",
            "source",
        ],
    ).assign(raw=[20.2, float("nan")], doses="EQD2 of each voxel, α/β 3 Gy", parameters="td50 30.8 Gy, n 1")
    return ReportContent(
        title=title,
        machine_title="Test machine, 1.5 T",
        protocol_title="66 Gy in 33",
        citation="A citation.",
        patient_label="analytic",
        ct=Image(ct_grid, hu),
        structures=structures,
        dose=dose,
        prescription_Gy=PRESCRIPTION_Gy,
        fractions=33,
        target="PTV",
        fluence=Fluence(tuple(maps), tuple(mu), Certificate("SOLVER", "optimal", 12.3456, 12.3455, 1e-8, 21)),
        leaf_travel="u",
        leaf_width_mm=7.15,
        dvhs={n: cumulative_dvh(dose, structures[n]) for n in names},
        goals=goals,
        constraints=pd.DataFrame(
            [("SpinalCord D0.1cc", 21.4, 21.9, 0.4, 48.0, True, 0.0)],
            columns=["name", "value", "raw", "sigma", "limit", "met", "dual"],
        ),
        skin=skin,
        models=models,
        convergence=pd.DataFrame({"round": [0, 1, 2], "largest correction (Gy)": [2.1, 0.4, 0.1]}),
        timing=pd.DataFrame(
            [("influence", 300.0, 160.0, 2900.0), ("optimise", 40.0, 40.0, 1800.0)],
            columns=["stage", "cpu_s", "wall_s", "peak_MB"],
        ),
        notes=Notes((Note("warning", "No kVp tag."), Note("done", "The couch was taken out of the image."))),
        thinning=("Every second voxel of the body outside 20 mm of the target was left out.",),
        neglected=("Bremsstrahlung angles are those of the electron.",),
        warnings=("Lung_R V20Gy is 3.2 % above its goal.",),
        provenance={"fingerprint": "0" * 32, "seed": 1, "histories": 120_000_000, "versions": {"numpy": "2"}},
        rois={"CTV": Roi("CTV", "target", (Contour(12.0, square),), 5.0, original_name="ctv boost", derived=False)},
    )


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return make_content()


@pytest.fixture(scope="session")
def other(content: ReportContent) -> ReportContent:
    return make_content(shift_mm=6.0, exit_skin_Gy=9.0, title="Analytic body, second plan")


@pytest.fixture(scope="session")
def plain(content: ReportContent) -> ReportContent:
    """Without everything that may be absent."""
    bare = StructureSet(content.structures.grid, {n: content.structures[n] for n in ("PTV", "Lung_R")})
    return replace(
        content,
        structures=bare,
        dose=replace(content.dose, rel_sigma=None),
        skin=content.skin.iloc[:0],
        models=content.models.iloc[:0],
        constraints=content.constraints.iloc[:0],
        convergence=pd.DataFrame(),
        timing=content.timing.iloc[:0],
        notes=Notes(),
        thinning=(),
        neglected=(),
        warnings=(),
        provenance={},
        rois={},
        fluence=replace(content.fluence, certificate=None),
    )

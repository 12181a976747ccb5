"""The built-in digital thorax patient: an adult with locally advanced lung cancer, made from a seed.

Comes in: a seed. Goes out: a :class:`~mrlinac.anatomy.patient.Patient`. Shapes are analytic, so that image and contours
agree at any spacing; sizes stand with their sources in ``mrlinac/data/thorax.toml``.
"""

from __future__ import annotations

from mrlinac.phantoms.patient import structure_names, thorax

__all__ = ["structure_names", "thorax"]

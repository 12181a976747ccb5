"""Physical constants and the few words that every room shares. CODATA 2018 values."""

from __future__ import annotations

ELECTRON_REST_ENERGY_MeV = 0.51099895
CLASSICAL_ELECTRON_RADIUS_cm = 2.8179403262e-13
AVOGADRO_per_mol = 6.02214076e23
FINE_STRUCTURE = 7.2973525693e-3

Gy_PER_MeV_PER_g = 1.602176634e-10
"""Dose of one MeV absorbed by one gram: 1.602e-13 J / 1e-3 kg."""

MOMENTUM_MeV_PER_T_mm = 0.299792458
"""p c [MeV] = 0.299792458 B [T] r [mm]: the gyration radius of a unit charge."""

AIR_LIKE_g_cm3 = 0.1
"""Below this density a dose to medium is not a dose to tissue: air in the trachea, the bowel, the gap under a mask."""

RESEARCH_ONLY = "Research simulator, not a medical device: not for treatment."

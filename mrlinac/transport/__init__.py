"""Coupled photon and electron Monte Carlo in a magnetic field.

Comes in: a medium, a delivery or beamlets, a machine's source, a field. Goes out: a dose, or an influence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrlinac.transport.run import dose, estimate, field_notes, influence, machine_problems
    from mrlinac.transport.simulate import check_device
    from mrlinac.transport.tables import Settings

__all__ = ["Settings", "check_device", "dose", "estimate", "field_notes", "influence", "machine_problems"]


def __getattr__(name: str) -> Any:
    if name in ("dose", "influence", "estimate", "check_device", "field_notes", "machine_problems"):
        from mrlinac.transport import run

        return getattr(run, name)
    if name == "Settings":
        from mrlinac.transport.tables import Settings

        return Settings
    raise AttributeError(f"module 'mrlinac.transport' has no attribute '{name}'")

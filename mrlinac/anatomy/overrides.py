"""What replaces the image's densities: overrides of structures, and of metal by its CT number."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mrlinac import spec
from mrlinac.anatomy.materials import MaterialName, short_name


class Override(spec.Spec):
    """A density and a material that replace the CT's; may stand in a plan file.

    Attributes
    ----------
    density_g_cm3 : float
        Mass density.
    material : str
        Name in ``mrlinac/data/materials.toml``.
    """

    density_g_cm3: Annotated[float, Field(gt=0)]
    material: MaterialName

    @property
    def described(self) -> str:
        """Material and density in a few words."""
        return f"{short_name(self.material)}, {self.density_g_cm3:g} g/cm³"


class MetalOverride(Override):
    """Metal found by its CT number: the voxels at and above a threshold, by default those that are saturated.

    Attributes
    ----------
    threshold_HU : float or None
        By default that of saturated voxels.
    """

    threshold_HU: float | None = None

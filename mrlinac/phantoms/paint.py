"""From shapes to Hounsfield units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrlinac.phantoms.body import Frame, Spine, rib_height
from mrlinac.phantoms.organs import Organs
from mrlinac.phantoms.shapes import Field, occupancy


@dataclass(frozen=True)
class Bones:
    """Ribs, cartilage, sternum and girdle on one plane."""

    rib: Field
    cartilage: Field
    sternum: Field
    girdle: Field


@dataclass(frozen=True)
class Lumps:
    """Tumour, spicules and nodes on one plane."""

    primary: Field
    spicules: Field
    nodes: Field


@dataclass(frozen=True)
class Textures:
    """Smooth random fields of unit variance on one plane: fine, middle and coarse."""

    fine: Field
    middle: Field
    coarse: Field


def tissue(
    frame: Frame,
    column: Spine,
    bones: Bones,
    muscle: Field,
    organs: Organs,
    lumps: Lumps,
    lung_vessels: Field,
    textures: Textures,
    hu: Mapping[str, float],
) -> Field:
    """CT numbers of one plane without noise and couch; air outside the skin.

    Paints from the outside in; a shape's edge pixels are mixed by the fraction inside.
    """
    plane = frame.plane
    w = plane.pixel_mm
    fine, middle, coarse = textures.fine, textures.middle, textures.coarse
    image = np.full(plane.x.shape, hu["air"], np.float32)

    def lay(distance: Field, value: NDArray[Any] | float) -> None:
        part = occupancy(distance, w)
        image[...] = image + part * (np.asarray(value, np.float32) - image)

    lay(frame.skin, hu["skin"])
    septa = 45.0 * np.clip(1.0 - np.abs(middle - 0.3) / 0.13, 0, 1) * np.clip(coarse, 0, 1)
    lay(frame.skin + 2.0, hu["fat"] + 5 * fine + septa)
    streak = 95.0 * np.clip(1.0 - np.abs(coarse + 0.35 * middle - 0.5) / 0.12, 0, 1)
    lay(muscle + 0.8 * middle, hu["muscle"] + 6 * fine - streak)
    inner_wall = np.maximum(frame.cavity - 3.0, frame.skin + 6.0)
    neck = plane.z - 4.0 - rib_height(0, frame.angle)  # above the first rib there is no chest
    lay(np.maximum(inner_wall, neck), hu["muscle"] - 8)
    lay(
        np.maximum(frame.cavity + 1.5, neck),
        hu["fat"] + 12 + 8 * fine + 8 * middle,
    )

    # under the diaphragm
    z_below = plane.z - organs.dome
    lay(np.maximum(np.maximum(frame.cavity + 0.5, z_below * 0.72), -z_below * 0.72 - 3.2), hu["muscle"])
    lay(organs.abdomen.bowel + 1.5 * middle, hu["bowel"] + 10 * middle)
    lay(organs.abdomen.bowel + 5.0 + 3 * middle, hu["bowel"] - 25 + 15 * middle)
    lay(organs.abdomen.kidney, hu["kidney"])
    lay(organs.abdomen.liver, hu["liver"] + 3 * coarse - 12 * np.clip(np.abs(middle) - 1.5, 0, 1))
    lay(organs.abdomen.spleen, hu["spleen"])
    lay(organs.abdomen.stomach, hu["muscle"] - 10)
    lay(organs.abdomen.stomach + 4.0, hu["stomach"] + 8 * middle)
    lay(organs.abdomen.stomach_air, hu["air"])
    lay(organs.cava_below, hu["blood"])

    # mediastinum
    lay(organs.heart + 0.0, hu["blood"])
    lay(organs.heart + 1.2, hu["fat"] + 18 + 8 * fine)
    lay(organs.chambers, hu["heart"] + 2 * middle)
    lay(organs.vessels, hu["blood"])
    lay(organs.great, hu["blood"])
    lay(organs.gullet, hu["muscle"] - 12)

    # lungs, with a gradient from front to back as gravity makes it
    lung = np.minimum(organs.lung_l, organs.lung_r)
    depth = (plane.y + 90.0) / 180.0
    parenchyma = (
        hu["lung_front"] + (hu["lung_back"] - hu["lung_front"]) * depth + 14 * middle + 10 * fine + 12 * coarse
    )
    lay(lung, parenchyma)
    lay(np.maximum(lung_vessels, lung + 1.0), hu["blood"] - 10)
    lay(organs.hilum, hu["blood"])
    lay(organs.wall, hu["wall"])
    lay(organs.air["all"], hu["air"] + 12)

    # tumour and nodes
    lay(np.maximum(lumps.spicules, lung + 1.0), hu["spicule"])
    lay(lumps.primary, hu["tumour"] + 5 * middle)
    lay(lumps.primary + 9.0 + 3.0 * middle, hu["necrosis"])
    lay(lumps.nodes, hu["node"] + 3 * middle)

    # bone
    lay(bones.cartilage, hu["cartilage"] + 12 * middle)
    for shape, shell, marrow in (
        (bones.rib, 1.0, hu["marrow_rib"]),
        (bones.sternum, 1.1, hu["marrow_sternum"]),
        (bones.girdle, 1.7, hu["marrow_girdle"]),
    ):
        lay(shape, hu["cortical"])
        lay(shape + shell, marrow + 25 * fine)
    lay(column.arch, hu["cortical"] * 0.85)
    lay(column.arch + 1.3, hu["marrow_spine"] + 40 + 30 * fine)
    # bodies and discs: the slice's thickness mixes them at the end plates
    lay(column.outline, hu["disc"])
    in_body = float(np.clip(0.5 - column.edge_mm / SLICE_mm, 0, 1))
    plate = hu["end_plate"] * max(0.0, 1 - abs(column.edge_mm + 0.5) / SLICE_mm)
    core = occupancy(column.outline + 1.1, w)
    trabecular = hu["marrow_spine"] + plate + 30 * fine + 15 * middle
    whole = hu["cortical"] * 0.8 * (1 - core) + trabecular * core
    part = occupancy(column.outline, w) * np.float32(in_body)
    image += part * (whole - image)
    lay(column.canal, hu["fat"] + 70)
    lay(column.canal + 1.2, hu["csf"])
    lay(column.cord, hu["cord"])
    return image


SLICE_mm = 3.0


def couch(x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], top_mm: float, size: Mapping[str, float]) -> Field:
    """Distance to the flat couch top's outline."""
    half_w, half_t = size["width_mm"] / 2, size["thickness_mm"] / 2
    x, y = np.meshgrid(np.abs(x_mm), np.abs(y_mm - top_mm - half_t))
    r = 12.0
    qx, qy = x - half_w + r, y - half_t + r
    return (np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - r).astype(np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], pixel_yx_mm: tuple[float, float]) -> Field:
    """CT noise of unit variance in the plane: white, smoothed by the kernel, without the lowest frequencies."""
    white = rng.standard_normal(shape, dtype=np.float32)
    soft = [0.8 / p for p in pixel_yx_mm]
    wide = [3.0 / p for p in pixel_yx_mm]
    grain = gaussian_filter(white, soft) - gaussian_filter(white, wide)
    return (grain / grain.std()).astype(np.float32)

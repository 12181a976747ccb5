"""Morphology of masks, plane by plane, against scipy's own."""

import numpy as np
import pytest
from scipy import ndimage

from mrlinac.anatomy import regions


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """Random blobs on three planes; some touch the edge, one plane is empty."""
    noise = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((4, 40, 53)), (0, 1.5, 1.5))
    mask = noise > 0.1
    mask[2] = False
    return mask


@pytest.mark.parametrize("pixels", [1, 2, 2.56, 3.07, 5.0, 7.3])
def test_growing_is_by_a_disc(blobs: np.ndarray, pixels: float) -> None:
    for plane, grown in zip(blobs, regions.grown(blobs, pixels), strict=True):
        far = ndimage.distance_transform_edt(~plane) if plane.any() else np.full(plane.shape, np.inf)
        assert np.array_equal(grown, far <= pixels)
        assert np.array_equal(regions.grown(plane, pixels), grown)


@pytest.mark.parametrize("pixels", [1, 3.07])
def test_shrinking_undoes_growing_of_what_is_convex_and_spares_the_edge(pixels: float) -> None:
    mask = np.zeros((30, 30), bool)
    mask[10:20, 0:15] = True  # it leaves the image on the left
    assert np.array_equal(regions.shrunk(regions.grown(mask, pixels), pixels), mask)
    assert regions.shrunk(mask, pixels)[15, 0]
    assert not regions.shrunk(mask, pixels)[10].any()


def test_holes_are_filled_plane_by_plane(blobs: np.ndarray) -> None:
    expected = np.stack([ndimage.binary_fill_holes(plane) for plane in blobs])
    assert expected.sum() > blobs.sum()
    assert np.array_equal(regions.filled(blobs), expected)
    assert np.array_equal(regions.filled(blobs[0]), expected[0])


def test_a_box_holds_the_mask_and_some_pixels_more() -> None:
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 1:4, 6] = True
    assert regions.box_of(mask, 2) == (slice(0, 5), slice(0, 6), slice(4, 9))


def test_the_largest_region_is_found() -> None:
    mask = np.zeros((2, 6, 6), bool)
    mask[0, 0, :2] = mask[:, 3:5, 2:4] = True
    largest = regions.largest(mask)
    assert largest is not None
    assert largest.sum() == 8
    assert regions.largest(np.zeros((1, 2, 2), bool)) is None

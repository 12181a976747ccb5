"""The patient in space: grids, images, structures, margins, densities.

Comes in: contours and voxel values, whoever read them. Goes out: structures as occupancy on a grid, and the medium that
transport goes through. Nothing here knows of beams, doses or files.
"""

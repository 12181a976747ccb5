"""Registration objects: rigid moves between frames of reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mrlinac.dicom.problems import Findings, numbers, text
from mrlinac.dicom.scan import Found

Matrix = NDArray[np.float64]

RIGID_TOLERANCE = 1e-3
"""How far a rotation may be from orthonormal: matrices come as rounded decimal strings."""

SAME_mm = 0.1
"""Two registrations that move a point 300 mm out to places this near say the same."""

LEVEL = 2e-4
"""Tilt that leaves a contour of 500 mm within 0.1 mm of its plane."""


def moves_to(
    frame_uid: str, registrations: Sequence[Found], findings: Findings, wanted: Collection[str] | None = None
) -> dict[str, Matrix]:
    """Frames of reference that can be moved into one frame, each with its matrix; the frame itself included.

    Parameters
    ----------
    frame_uid : str
        Where to.
    registrations : sequence of Found
        Registration objects of the folder.
    findings : Findings
        Gets a problem where two registrations contradict one another, a note where one is not rigid.
    wanted : collection of str, optional
        The frames of reference that are needed: registrations of others may contradict one another.

    Returns
    -------
    mapping from frame UID to matrix (4, 4)
        Turns homogeneous points of that frame into points of ``frame_uid``.
    """
    moves: dict[str, Matrix] = {frame_uid: np.eye(4)}
    by: dict[str, Found] = {}
    for file in registrations:
        to_registered = _matrices(file, findings)
        here = to_registered.get(frame_uid)
        if here is None:
            continue
        for frame, matrix in to_registered.items():
            move = np.linalg.inv(here) @ matrix
            if frame == frame_uid:
                continue
            if wanted is not None and frame not in wanted:
                continue
            if frame in moves and not _same(moves[frame], move):
                findings.problem(
                    f"moves a frame of reference elsewhere than {by[frame].name} does",
                    "Remove the registration that does not hold",
                    file=file.name,
                    keyword="FrameOfReferenceTransformationMatrix",
                )
            moves.setdefault(frame, move)
            by.setdefault(frame, file)
    return moves


def _matrices(file: Found, findings: Findings) -> dict[str, Matrix]:
    """Matrix into the registered frame for each frame the object speaks of."""
    result = {text(file.header, "FrameOfReferenceUID"): np.eye(4)}
    for item in file.header.get("RegistrationSequence") or []:
        frame = text(item, "FrameOfReferenceUID")
        whole: Matrix | None = np.eye(4)
        for step in item.get("MatrixRegistrationSequence") or []:
            for matrix_item in step.get("MatrixSequence") or []:
                values = numbers(matrix_item, "FrameOfReferenceTransformationMatrix")
                matrix = None if values is None or values.size != 16 else values.reshape(4, 4)
                # PS3.3 C.20.2.1: the items are applied in their order.
                whole = None if whole is None or matrix is None or not _rigid(matrix) else matrix @ whole
        if whole is None:
            findings.note("warning", f"Registration {file.key}: a matrix is missing or not rigid; it is not used.")
        elif frame:
            result[frame] = whole
    return {frame: matrix for frame, matrix in result.items() if frame}


def _rigid(matrix: Matrix) -> bool:
    turn = matrix[:3, :3]
    orthonormal = np.max(np.abs(turn @ turn.T - np.eye(3))) < RIGID_TOLERANCE
    return bool(orthonormal and np.linalg.det(turn) > 0 and np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6))


def _same(first: Matrix, other: Matrix) -> bool:
    far = np.array([[300.0, 0, 0, 1], [0, 300.0, 0, 1], [0, 0, 300.0, 1]]).T
    return bool(np.max(np.abs(first @ far - other @ far)) < SAME_mm)


def keeps_planes(matrix: Matrix) -> bool:
    """Whether axial planes stay axial under the move, so that contours can be moved as they are."""
    return bool(np.max(np.abs(matrix[2, :2])) < LEVEL and matrix[2, 2] > 0)


def described(matrix: Matrix) -> str:
    """A move in words: shift and angle."""
    shift = ", ".join(f"{value + 0.0:.1f}" for value in np.round(matrix[:3, 3], 1))
    angle = np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))
    return f"shift ({shift}) mm, rotation {angle:.2f}°"


def frames_named(registration: Found) -> set[str]:
    """Frame UIDs a registration object connects."""
    items = registration.header.get("RegistrationSequence") or []
    named = {text(registration.header, "FrameOfReferenceUID")}
    return (named | {text(item, "FrameOfReferenceUID") for item in items}) - {""}


__all__ = ["described", "frames_named", "keeps_planes", "moves_to"]

"""Stored pixel values of a DICOM object as integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from mrlinac.dicom.problems import Findings, integer, text

MOST_bytes = 2 << 30
"""Most memory for the pixels of one object."""

BLANK_bytes, MOST_COMPRESSION = 64 << 20, 1000
"""Blank slices compress without bound, so this much is always decoded; beyond it no image shrinks a thousandfold."""


def stored_values(dataset: Dataset, name: str, findings: Findings) -> NDArray[np.integer] | None:
    """Stored pixel values as integers (rows, columns) or (frames, rows, columns); None with a problem noted.

    Signed and unsigned, 8 to 32 bits; bits above Bits Stored (old overlays) are taken off.
    """
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric != "MONOCHROME2" or integer(dataset, "SamplesPerPixel") != 1:
        findings.problem(
            f"is {photometric or 'missing'}; grey images (MONOCHROME2) are read",
            "Export the original slices, not secondary captures",
            file=name,
            keyword="PhotometricInterpretation",
        )
        return None
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    signed, high = integer(dataset, "PixelRepresentation"), integer(dataset, "HighBit")
    if allocated not in (8, 16, 32) or stored is None or not 1 <= stored <= allocated or signed not in (0, 1):
        findings.problem(
            f"Bits Allocated {allocated}, Bits Stored {stored}, Pixel Representation {signed} do not make sense",
            "Export it again",
            file=name,
            keyword="BitsAllocated",
        )
        return None
    if high is not None and high != stored - 1:
        findings.problem(f"is {high} with Bits Stored {stored}", "Export it again", file=name, keyword="HighBit")
        return None
    if _too_large(dataset, allocated, name, findings):
        return None
    syntax = UID(text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID") or "1.2.840.10008.1.2")
    if not syntax.is_transfer_syntax:
        findings.problem("is not a known one", "Export it again", file=name, keyword="TransferSyntaxUID")
        return None
    if syntax.is_compressed and not syntax.is_deflated:
        values = _decompressed(dataset, syntax, name, findings)
    else:
        order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
        values = _native(dataset, np.dtype(f"{order}{'ui'[signed]}{allocated // 8}"), name, findings)
    if values is None or stored == allocated:
        return values
    spare = allocated - stored
    return (values << spare) >> spare


def _too_large(dataset: Dataset, allocated: int, name: str, findings: Findings) -> bool:
    """Whether the header asks for more memory than the data can stand for: a decoder would take it unasked."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    frames = integer(dataset, "NumberOfFrames") or 1
    wanted, held = rows * columns * frames * allocated // 8, len(dataset.get("PixelData") or b"")
    if wanted <= MOST_bytes and wanted <= BLANK_bytes + MOST_COMPRESSION * held:
        return False
    findings.problem(
        f"{frames} frame(s) of {columns}×{rows} pixels in {held} bytes: absurd",
        "Export it again",
        file=name,
        keyword="Rows",
    )
    return True


def _native(
    dataset: Dataset, dtype: np.dtype[np.integer], name: str, findings: Findings
) -> NDArray[np.integer] | None:
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    frames = integer(dataset, "NumberOfFrames") or 1
    data = dataset.get("PixelData") or b""
    wanted = frames * rows * columns * dtype.itemsize
    if not wanted or len(data) < wanted:
        findings.problem(
            f"{len(data)} bytes instead of {wanted}: the file is cut off",
            "Export it again",
            file=name,
            keyword="PixelData",
        )
        return None
    values = np.frombuffer(data, dtype, count=frames * rows * columns).astype(dtype.newbyteorder("="), copy=False)
    return values.reshape((frames, rows, columns) if frames > 1 else (rows, columns))


def _decompressed(dataset: Dataset, syntax: UID, name: str, findings: Findings) -> NDArray[np.integer] | None:
    try:
        return np.asarray(dataset.pixel_array)
    except Exception as error:
        findings.problem(
            f"compressed as '{syntax.name}', which could not be decoded here ({type(error).__name__})",
            "Export uncompressed (Explicit VR Little Endian), or decompress with dcmtk's dcmdjpeg or gdcmconv --raw",
            file=name,
            keyword="PixelData",
        )
        return None

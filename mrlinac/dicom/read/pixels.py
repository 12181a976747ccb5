"""Stored pixel values of a DICOM object as integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from mrlinac.dicom.problems import Findings, integer, tag_name, text
from mrlinac.dicom.read import jpeg_lossless

LOSSLESS_JPEG = (JPEGLossless, JPEGLosslessSV1)
DECODERS = {
    RLELossless: "pydicom",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
}
"""Which of pydicom's plugins decodes what; all under permissive licences."""

JPEG2000_START = b"\xff\x4f\xff\x51"
MOST_TILES = 4096
FRAME_STARTS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
"""Markers that begin with precision, rows and columns of a JPEG or JPEG-LS frame."""

MOST_bytes = 2 << 30
"""Most memory for the pixels of one object."""

BLANK_bytes, MOST_COMPRESSION = 64 << 20, 1000
"""Blank slices compress without bound, so this much is always decoded; beyond it no image shrinks a thousandfold."""


def stored_values(dataset: Dataset, name: str, findings: Findings) -> NDArray[np.integer] | None:
    """Stored pixel values as integers (rows, columns) or (frames, rows, columns); None with a problem noted.

    Signed and unsigned, 8 to 32 bits; bits above Bits Stored (old overlays) are taken off.
    """
    photometric, samples = text(dataset, "PhotometricInterpretation").upper(), integer(dataset, "SamplesPerPixel")
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "") or samples not in (1, None):
        findings.problem(
            f"is {photometric or 'missing'}, of {samples or 1} sample(s) a pixel; grey images are read",
            "Export the original slices, not secondary captures",
            file=name,
            keyword="PhotometricInterpretation",
        )
        return None
    if photometric != "MONOCHROME2":
        _note_display(photometric, text(dataset, "Modality").upper(), findings)
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


def _note_display(photometric: str, modality: str, findings: Findings) -> None:
    """Photometric Interpretation is of the display alone: CT numbers and doses are what slope and intercept make."""
    tag = tag_name("PhotometricInterpretation")
    if not photometric:
        findings.note("done", f"{tag} is missing: the values are read as they are stored, one a pixel.")
    elif modality == "MR":
        findings.note(
            "decide",
            f"{tag} is MONOCHROME1 (small values are shown bright): the values are read as they are stored. Look at the"
            " image: what is bright in an MR of this kind may be small here.",
        )
    else:
        findings.note("info", f"{tag} is MONOCHROME1, which inverts the display alone: the values are not changed.")


def _too_large(dataset: Dataset, allocated: int, name: str, findings: Findings) -> bool:
    """Whether the header asks for more memory than the data can stand for: a decoder would take it unasked."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    frames = integer(dataset, "NumberOfFrames") or 1
    wanted, held = rows * columns * frames * allocated // 8, len(_data(dataset))
    if wanted <= MOST_bytes and wanted <= BLANK_bytes + MOST_COMPRESSION * held:
        return False
    findings.problem(
        f"{frames} frame(s) of {columns}×{rows} pixels in {held} bytes: absurd",
        "Export it again",
        file=name,
        keyword="Rows",
    )
    return True


def _data(dataset: Dataset) -> bytes:
    """Pixel Data as bytes; none where absent or damaged beyond reading."""
    try:
        value = dataset.get("PixelData")
    except Exception:
        return b""
    return value if isinstance(value, bytes) else b""


def _native(
    dataset: Dataset, dtype: np.dtype[np.integer], name: str, findings: Findings
) -> NDArray[np.integer] | None:
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    frames = integer(dataset, "NumberOfFrames") or 1
    data = _data(dataset)
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
        if syntax in LOSSLESS_JPEG:
            return _jpeg_lossless(dataset)
        if syntax != RLELossless:
            _check_streams(dataset)
        # Named, so that it does not depend on what else is installed; some decoders end the process on damaged data.
        return np.asarray(pixel_array(dataset, raw=True, decoding_plugin=DECODERS.get(syntax, "")))
    except Exception as error:
        findings.problem(
            f"compressed as '{syntax.name}', which could not be decoded here ({type(error).__name__})",
            "Export uncompressed (Explicit VR Little Endian), or decompress with dcmtk's dcmdjpeg or gdcmconv --raw",
            file=name,
            keyword="PixelData",
        )
        return None


def _check_streams(dataset: Dataset) -> None:
    """A compressed stream has a size of its own, which a decoder believes: it must be the header's."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    for stream in generate_frames(_data(dataset), number_of_frames=integer(dataset, "NumberOfFrames") or 1):
        if stream_shape(stream) != (rows, columns):
            raise ValueError("the compressed stream is damaged or of another size")


def stream_shape(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream says it has; None where it says nothing sensible.

    A JPEG 2000 stream of more tiles than MOST_TILES is damaged: each costs a decoder time and memory.
    """
    start = stream.find(JPEG2000_START)
    if 0 <= start < 256:
        sizes = [int.from_bytes(stream[at : at + 4], "big") for at in range(start + 8, start + 40, 4)]
        width, height, left, top, tile_width, tile_height, *_ = sizes
        if tile_width < 1 or tile_height < 1 or (width // tile_width + 1) * (height // tile_height + 1) > MOST_TILES:
            return None
        return height - top, width - left
    place = stream.find(b"\xff\xd8") + 2
    while 2 <= place < len(stream) - 8:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if stream[place] != 0xFF or length < 2:
            return None
        if marker in FRAME_STARTS:
            return int.from_bytes(stream[place + 5 : place + 7], "big"), int.from_bytes(
                stream[place + 7 : place + 9], "big"
            )
        place += 2 + length
    return None


def _jpeg_lossless(dataset: Dataset) -> NDArray[np.integer]:
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    frames = integer(dataset, "NumberOfFrames") or 1
    streams = generate_frames(_data(dataset), number_of_frames=frames)
    values = np.array([jpeg_lossless.decode(stream, (rows, columns)) for stream in streams])
    if len(values) != frames:
        raise ValueError(f"{len(values)} frames instead of {frames}")
    whole = values if frames > 1 else values[0]
    if integer(dataset, "BitsAllocated") == 8:
        whole = whole.astype(np.uint8)
    return whole.view(f"i{whole.itemsize}") if integer(dataset, "PixelRepresentation") == 1 else whole

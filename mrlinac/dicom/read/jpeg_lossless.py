"""JPEG lossless (ITU-T T.81 annex H, process 14), the usual compression of CT archives, for grey images.

The decoders of this format that can be installed are under the GPL, or end the process when a file is damaged. This one
reads Huffman-coded lossless frames of one component, 2 to 16 bits, any predictor and restart interval, and raises
ValueError for everything else.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOF3, DHT, SOI, EOI, SOS, DRI, DNL = 0xC3, 0xC4, 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
OTHER_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})


def decode(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Samples of one frame.

    Parameters
    ----------
    data : bytes
        A JPEG stream from SOI on.
    shape : tuple of int
        Rows and columns that the caller expects; nothing else is decoded.

    Raises
    ------
    ValueError
        When the stream is damaged, of another process, or of another shape.
    """
    place = data.find(b"\xff\xd8") + 2
    if place < 2:
        raise ValueError("no start of image")
    bits, interval = 0, 0
    tables: dict[int, NDArray[np.int32]] = {}
    while True:
        marker, body, place = _segment(data, place)
        if marker == DHT:
            tables.update(_huffman_tables(body))
        elif marker == DRI:
            interval = int.from_bytes(body[:2], "big")
        elif marker == SOF3:
            bits = _frame_bits(body, shape)
        elif marker in OTHER_FRAMES:
            raise ValueError("not a lossless Huffman-coded frame")
        elif marker == SOS:
            break
        elif marker == EOI:
            raise ValueError("no scan")
    if not bits:
        raise ValueError("a scan without a frame")
    if len(body) != 6 or body[0] != 1 or not 1 <= body[3] <= 7 or body[5] & 15 >= bits:
        raise ValueError("scan parameters that are not of one lossless component")
    table = tables.get(body[2] >> 4)
    if table is None:
        raise ValueError("no Huffman table for the scan")
    rows, columns = shape
    if interval % columns:
        raise ValueError("restart interval that is not of whole lines")
    samples = np.zeros(shape, np.int32)
    first, step = 0, interval // columns or rows
    for part in _intervals(data, place):
        if first >= rows:
            break
        last = min(rows, first + step)
        if _kernel()(part, table, samples, first, last, int(body[3]), bits - int(body[5] & 15)) != 0:
            raise ValueError("damaged Huffman codes")
        first = last
    if first < rows:
        raise ValueError("cut off")
    return (samples << (body[5] & 15) & 0xFFFF).astype(np.uint16)


def _segment(data: bytes, place: int) -> tuple[int, bytes, int]:
    """Marker, contents and end of the next segment."""
    while place < len(data) and data[place] == 0xFF and data[place + 1 : place + 2] == b"\xff":
        place += 1  # fill bytes
    if place + 4 > len(data) or data[place] != 0xFF:
        raise ValueError("no marker where one should be")
    marker = data[place + 1]
    if marker in (SOI, EOI):
        return marker, b"", place + 2
    length = int.from_bytes(data[place + 2 : place + 4], "big")
    if length < 2 or place + 2 + length > len(data):
        raise ValueError("a segment longer than the file")
    return marker, data[place + 4 : place + 2 + length], place + 2 + length


def _frame_bits(body: bytes, shape: tuple[int, int]) -> int:
    if len(body) != 9 or body[5] != 1 or not 2 <= body[0] <= 16:
        raise ValueError("not one component of 2 to 16 bits")
    rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if (rows, columns) != shape:
        raise ValueError(f"{columns}×{rows} pixels instead of {shape[1]}×{shape[0]}")
    return body[0]


def _huffman_tables(body: bytes) -> dict[int, NDArray[np.int32]]:
    """For every 16 bits that may come next: length of the code times 256 plus its symbol; 0 where there is none."""
    tables = {}
    while body:
        counts, number = body[1:17], sum(body[1:17])
        symbols = body[17 : 17 + number]
        if len(counts) != 16 or len(symbols) != number:
            raise ValueError("a Huffman table that is cut off")
        table = np.zeros(1 << 16, np.int32)
        code, used = 0, 0
        for length, count in enumerate(counts, start=1):
            for symbol in symbols[used : used + count]:
                low, high = code << (16 - length), (code + 1) << (16 - length)
                if high > 1 << 16 or symbol > 16:
                    raise ValueError("a Huffman table that contradicts itself")
                table[low:high] = length << 8 | symbol
                code += 1
            used += count
            code <<= 1
        tables[body[0] & 15] = table
        body = body[17 + number :]
    return tables


def _intervals(data: bytes, place: int) -> list[NDArray[np.int32]]:
    """Entropy-coded bytes of every restart interval, without stuffing, zeros behind them for the last codes' look-ahead."""
    parts, start = [], place
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            end, marker, place = len(data), EOI, len(data)
        else:
            end, marker = place, data[place + 1]
            place += 2
            if marker == 0:
                continue
            if marker == 0xFF:
                place -= 1
                continue
        parts.append(
            np.frombuffer(data[start:end].replace(b"\xff\x00", b"\xff") + bytes(8), np.uint8).astype(np.int32)
        )
        start = place
        if not 0xD0 <= marker <= 0xD7:
            return parts


def _lines(data: Any, table: Any, samples: Any, first: int, last: int, predictor: int, bits: int) -> int:
    """Decode lines of one restart interval; 0, or 1 where the codes are damaged or end early."""
    place = 0  # in bits
    end = 8 * (len(data) - 8)
    columns = samples.shape[1]
    for row in range(first, last):
        for column in range(columns):
            byte = place >> 3
            if place >= end:
                return 1
            window = (data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]) >> (8 - (place & 7)) & 0xFFFF
            entry = table[window]
            if entry == 0:
                return 1
            place += entry >> 8
            size = entry & 0xFF
            difference = 0
            if size == 16:
                difference = 32768
            elif size > 0:
                byte = place >> 3
                if place + size > end:
                    return 1
                window = (data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]) >> (8 - (place & 7)) & 0xFFFF
                difference = window >> (16 - size)
                if difference < 1 << (size - 1):
                    difference -= (1 << size) - 1
                place += size
            if row == first:
                guess = 1 << (bits - 1) if column == 0 else samples[row, column - 1]
            elif column == 0:
                guess = samples[row - 1, 0]
            else:
                a, b = samples[row, column - 1], samples[row - 1, column]
                c = samples[row - 1, column - 1]
                if predictor == 1:
                    guess = a
                elif predictor == 2:
                    guess = b
                elif predictor == 3:
                    guess = c
                elif predictor == 4:
                    guess = a + b - c
                elif predictor == 5:
                    guess = a + ((b - c) >> 1)
                elif predictor == 6:
                    guess = b + ((a - c) >> 1)
                else:
                    guess = (a + b) >> 1
            samples[row, column] = (guess + difference) & 0xFFFF
    return 0


@cache
def _kernel() -> Any:
    """The compiled loop; compiled when an image first needs it, and kept on disk."""
    from mrlinac.jit import kernel

    return kernel(_lines)

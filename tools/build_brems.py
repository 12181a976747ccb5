"""Build ``mrlinac/data/brems.npz``: the bremsstrahlung cross sections of Seltzer and Berger for the elements in use.

Developers only; users get the file. ``python tools/build_brems.py --from BREMX.DAT [--check]``

Source: S. M. Seltzer, National Bureau of Standards, 5 Sep 1984, "total electron-atom bremsstrahlung spectra, (BETA**2/
Z**2)*K*(DSIGMA/DK) in mb, for Z = 1 to 100", printed in Seltzer and Berger, At. Data Nucl. Data Tables 35:345 (1986):
scaled cross sections at 57 kinetic energies and 30 reduced photon energies, nucleus and atomic electrons together.
OpenMC (MIT licence) hands the file on, with its authors' leave, as ``openmc/data/BREMX.DAT``; it is the same in every
version. What is kept are the numbers of the elements of ``materials.toml`` from 10 keV to 50 MeV.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from mrlinac.transport import brems, materials

SHA256 = "a573f950eea64a092cc939a636de2db76bae912cfc3aca7ba9c7f12052285c20"
HEADER_LINES = 4
LOWEST_MeV, HIGHEST_MeV = 0.01, 50.0


def build(text: str) -> dict[str, np.ndarray]:
    """All arrays of the file, from the text of BREMX.DAT: counts, energies, ratios, then blocks [Z][energy][ratio]."""
    words = " ".join(text.replace("\x1a", " ").splitlines()[HEADER_LINES:]).split()
    energies, ratios = int(words[0]), int(words[1])
    values = np.array(words[2:], float)
    energy_MeV, rest = values[:energies], values[energies:]
    ratio, rest = rest[:ratios], rest[ratios:]
    scaled = rest.reshape(100, energies, ratios)
    numbers = sorted({int(z) for m in materials.load().values() for z in m.atomic_number})
    kept = (energy_MeV >= LOWEST_MeV) & (energy_MeV <= HIGHEST_MeV)
    return {
        "atomic_number": np.array(numbers, np.int64),
        "energy_MeV": energy_MeV[kept],
        "ratio": ratio,
        "scaled_mb": scaled[np.array(numbers) - 1][:, kept],
    }


def main() -> int:
    """Write the file, or with --check compare it with a fresh build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, help="BREMX.DAT")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    raw = args.source.read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256:
        print(f"{args.source}: not the file that brems.npz was made from (SHA-256 {SHA256})")
        return 1
    built = build(raw.decode("ascii"))
    if args.check:
        with np.load(brems.FILE) as stored:
            wrong = sorted(set(stored.files) ^ set(built))
            wrong += [k for k in built if k in stored.files and not np.array_equal(stored[k], built[k])]
        print(f"{brems.FILE}: " + (f"differs in {', '.join(wrong)}" if wrong else "as built"))
        return 1 if wrong else 0
    np.savez_compressed(brems.FILE, **built)  # type: ignore[arg-type]
    print(f"{brems.FILE}: {len(built['atomic_number'])} elements, {brems.FILE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

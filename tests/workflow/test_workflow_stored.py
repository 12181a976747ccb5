"""What one plan's influence leaves in the store serves another margin, another protocol and a stopped run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import checked

from mrlinac import transport
from mrlinac.recipe import influence
from mrlinac.recipe.influence import influence_of
from mrlinac.store import Store


def quiet(*_):
    """No progress."""


@pytest.fixture(scope="module")
def cases(shared, spec, patient, case):
    """(spec, case) by PTV margin."""
    assert spec.protocol.structures["PTV"].margin_mm == 7
    small = spec.override({"protocol.structures.PTV.margin_mm": 3.0})
    return {7.0: (spec, case), 3.0: (small, shared("case-3mm", lambda: checked(small, patient)))}


@pytest.fixture
def followed(monkeypatch):
    """Beamlets that photons were really followed for, call by call."""
    counts = []
    really = transport.influence

    def counted(medium, maps, *rest, **options):
        counts.append(sum(map(len, maps)))
        return really(medium, maps, *rest, **options)

    monkeypatch.setattr(transport, "influence", counted)
    return counts


def made(case_of, store):
    spec, case = case_of
    return influence_of(spec, case, tell=quiet, store=store, threads=2)


def same(one, other):
    return all(
        np.array_equal(getattr(one.matrix, part), getattr(other.matrix, part))
        for part in ("data", "indices", "indptr")
    )


def test_a_smaller_margin_is_served_bit_for_bit(cases, followed, tmp_path):
    store = Store(tmp_path / "one")
    made(cases[7.0], store)
    assert sum(followed) == cases[7.0][1].beamlets
    followed.clear()
    served = made(cases[3.0], store)
    assert followed == []
    assert any("taken from the cache" in note for note in served.provenance.notes)
    fresh = made(cases[3.0], Store(tmp_path / "other"))
    assert same(served, fresh)
    assert served.provenance.histories == fresh.provenance.histories
    assert served.matrix.shape[1] == cases[3.0][1].beamlets < cases[7.0][1].beamlets


def test_a_larger_margin_adds_what_is_missing(cases, followed, tmp_path):
    store = Store(tmp_path / "one")
    made(cases[3.0], store)
    followed.clear()
    grown = made(cases[7.0], store)
    assert 0 < sum(followed) <= cases[7.0][1].beamlets
    assert same(grown, made(cases[7.0], Store(tmp_path / "other")))
    followed.clear()
    assert same(made(cases[3.0], store), made(cases[3.0], Store(tmp_path / "third")))


def test_beamlets_of_a_larger_plan_that_are_followed_again_do_not_count(cases, monkeypatch, tmp_path):
    """The first beam lacks voxels, so its larger plan's beamlets are all made again; the other beams are there."""
    store = Store(tmp_path / "one")
    (wide, large), (spec, case) = cases[7.0], cases[3.0]
    few = influence.rows_wanted(spec.protocol, case.structures)
    more = few | (case.structures["External"].occupancy > 0)
    for of_spec, of_case, wanted in (
        (spec, replace(case, maps=case.maps[1:]), more),
        (wide, replace(large, maps=large.maps[:1]), few),
    ):
        monkeypatch.setattr(influence, "rows_wanted", lambda *_, wanted=wanted: wanted)
        made((of_spec, of_case), store)
    monkeypatch.setattr(influence, "rows_wanted", lambda *_: more)
    notes = made((spec, case), store).provenance.notes
    assert f"{case.beamlets - len(case.maps[0])} of {case.beamlets} beamlets taken from the cache" in notes


def test_a_stopped_run_goes_on_with_the_beam_it_was_at(cases, monkeypatch, followed, tmp_path):
    store = Store(tmp_path / "one")
    spec, case = cases[3.0]

    def stop_in_the_third_beam(done, total, text):
        if done > sum(len(m) for m in case.maps[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        influence_of(spec, case, tell=stop_in_the_third_beam, store=store, threads=2)
    followed.clear()
    whole = made(cases[3.0], store)
    assert followed == [len(case.maps[2])]
    assert same(whole, made(cases[3.0], Store(tmp_path / "other")))


def test_a_torn_beam_is_made_again(cases, followed, tmp_path):
    store = Store(tmp_path / "one")
    first = made(cases[3.0], store)
    torn = next(store.folder.rglob("*.npz"))
    torn.write_bytes(torn.read_bytes()[:1000])
    followed.clear()
    assert same(made(cases[3.0], store), first)
    assert len(followed) == 1


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("seed", lambda spec, case: (spec.override({"numerics.seed": 9}), case)),
        ("photons", lambda spec, case: (spec.override({"numerics.photons_per_beamlet": 700}), case)),
        ("field", lambda spec, case: (spec, replace(case, field_xyz_T=(0.0, 0.0, 0.0)))),
        ("direction", lambda spec, case: (spec, replace(case, field_xyz_T=(0.0, 0.0, -1.5)))),
        ("medium", lambda spec, case: (spec, replace(case, medium=denser(case.medium)))),
        ("isocentre", lambda spec, case: (spec, replace(case, maps=tuple(map(moved, case.maps))))),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_another_field_seed_or_medium_shares_nothing(cases, monkeypatch, tmp_path, named, change):
    """The first beam is looked for in the store, and its photons are followed again; then we stop."""
    store = Store(tmp_path / "one")
    spec, case = cases[3.0]
    first = replace(case, maps=case.maps[:1])
    made((spec, first), store)

    class Followed(Exception):
        pass

    def refused(*_, **__):
        raise Followed

    monkeypatch.setattr(transport, "influence", refused)
    assert made((spec, first), store).matrix.nnz > 0  # the same is served
    with pytest.raises(Followed):
        made(change(spec, first), store)


def denser(medium):
    """One voxel a little denser."""
    density = medium.density_g_cm3.copy()
    density[tuple(n // 2 for n in density.shape)] *= 1.01
    return replace(medium, density_g_cm3=density)


def moved(beamlets):
    """A millimetre along the body."""
    x, y, z = beamlets.beam.isocentre_xyz_mm
    return replace(beamlets, beam=replace(beamlets.beam, isocentre_xyz_mm=(x, y, z + 1.0)))

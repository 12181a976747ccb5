"""A goal that repeats a hard limit follows it."""

from __future__ import annotations

import pytest

import mrlinac as mr
from mrlinac import spec
from mrlinac.errors import SpecError
from mrlinac.protocol.model import from_values, load


def limits(protocol):
    return {(g.structure, g.metric): protocol.limit_of(g) for g in protocol.goals}


@pytest.mark.parametrize("name", spec.names("protocols"))
def test_every_goal_that_repeats_a_limit_finds_it(name):
    """And none that could repeat one has the same figure of its own, which a change of the limit would leave behind."""
    protocol = load(name)
    repeating = [g for g in protocol.goals if g.as_constraint]
    assert len(repeating) >= 6
    assert all(protocol.limit_of(g)[1] is not None for g in repeating)
    for goal in protocol.goals:
        own = goal.at_most if goal.at_most is not None else goal.at_least
        assert own is None or all(
            own not in (c.at_most_Gy, c.at_most_percent, c.at_least_percent) for c in protocol._same_quantity(goal)
        ), f"{goal.structure} {goal.metric}"


def test_a_changed_limit_changes_its_goal():
    changed = mr.load_plan("unity-66in33", {"protocol.constraints.0.at_most_Gy": 45}).protocol
    assert limits(load("conventional-66in33"))["Cord", "D0.1cc"] == ("<=", 50)
    assert limits(changed)["Cord", "D0.1cc"] == ("<=", 45)
    assert limits(changed)["Heart", "D33.3%"] == ("<=", 60)


def test_a_limit_of_another_fractionation_is_converted_as_the_constraint_is():
    """68 Gy in 30 fractions of 2.267 Gy are 69.95 Gy in 33 with α/β 3 Gy: D (d + 3) is the same."""
    protocol = load("conventional-66in33")
    _, limit = limits(protocol)["Esophagus", "D1cc"]
    assert limit * (limit / 33 + 3) == pytest.approx(68 * (2.267 + 3))


def test_a_relative_limit_is_in_per_cent_for_a_goal_in_per_cent():
    protocol = load("conventional-66in33")
    assert limits(protocol)["PTV_eval", "D2%[%]"] == ("<=", 107)
    raised = mr.load_plan("unity-66in33", {"protocol.constraints.9.at_most_percent": 110}).protocol
    assert limits(raised)["PTV_eval", "D2%[%]"] == ("<=", 110)


def test_a_goal_goes_with_its_limit_and_one_that_was_written_is_only_reported():
    bare = mr.load_plan("unity-66in33", {"protocol.constraints": []}).protocol
    assert ("Cord", "D0.1cc") not in limits(bare)
    assert limits(bare)["Lungs-GTV", "V20Gy[%]"] == ("<=", 35)  # a limit of its own
    written = {"structure": "Cord", "metric": "D0.1cc", "as_constraint": True, "source": "test"}
    bare = mr.load_plan("unity-66in33", {"protocol.constraints": [], "protocol.goals": [written]}).protocol
    assert limits(bare)["Cord", "D0.1cc"] == ("", None)


def test_a_limit_on_another_volume_is_another_quantity():
    moved = limits(mr.load_plan("unity-66in33", {"protocol.constraints.cord.volume_cc": 0.2}).protocol)
    assert ("Cord", "D0.1cc") not in moved
    assert moved["Cord", "D0.2cc"] == ("<=", 50)


def test_a_goal_has_one_limit():
    written = {"structure": "Cord", "metric": "D0.1cc", "as_constraint": True, "source": "test"}
    with pytest.raises(SpecError, match="not both"):
        mr.load_plan("unity-66in33", {"protocol.goals": [{**written, "at_most": 40}]})
    values = load("conventional-66in33").model_dump(mode="json", exclude_none=True)
    values["constraints"].append(values["constraints"][0])
    assert ("Cord", "D0.1cc") not in limits(from_values(values))  # of two limits neither is a goal
    values["goals"].append(written)
    with pytest.raises(SpecError, match=r"Cord D0\.1cc: as_constraint, but 2 constraints limit it"):
        from_values(values)

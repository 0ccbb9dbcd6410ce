from __future__ import annotations

import pytest

from skipc.tools.simulate.scenario import (
    Change,
    Neighbour,
    ScenarioError,
    find_scenario,
    read_scenario,
    shipped_scenarios,
)

SMALLEST = """
format = "skipc.scenario/1"
name = "mine"
description = "one line"
duration_s = 10
[[grants]]
at_s = 0
latency = 1.2
"""


def _written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_smallest_file_is_enough(tmp_path):
    scenario = read_scenario(_written(tmp_path, SMALLEST))
    assert (scenario.file, scenario.name, scenario.duration_s) == ("mine", "mine", 10.0)
    assert scenario.grants[0].latency == 1.2
    assert (scenario.arrivals.kind, scenario.meter, scenario.neighbour) == (
        "periodic",
        None,
        None,
    )


@pytest.mark.parametrize("name", shipped_scenarios())
def test_those_that_are_shipped_can_be_read(name):
    scenario = find_scenario(name)
    assert scenario.file == name
    assert scenario.description


def test_a_name_that_is_not_one_names_the_nearest():
    with pytest.raises(ScenarioError, match=r"'batery'\. Did you mean 'battery'\?"):
        find_scenario("batery")


def test_a_file_of_ones_own_is_found_by_its_path(tmp_path):
    assert find_scenario(str(_written(tmp_path, SMALLEST))).name == "mine"
    with pytest.raises(ScenarioError, match=r"none\.toml: cannot be read"):
        find_scenario(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("duration_s = 10", "duration_s = 0"), "'duration_s' must be a number above zero"),
        (("duration_s = 10", "duration_s = 1e9"), "a number of at most 2592000"),
        (
            ("latency = 1.2", "latncy = 1.2"),
            "unknown key 'latncy'. Did you mean 'latency'",
        ),
        (("latency = 1.2", "latency = -1"), "'latency' must be a number above zero"),
        (("latency = 1.2", "quantile = 0.3"), "'quantile' must be a number of at least 0.5"),
        (("at_s = 0", "at_s = 3"), "'grants' must begin with one at at_s = 0"),
        (("skipc.scenario/1", "skipc.scenario/9"), "this skipc reads 'skipc.scenario/1'"),
        (("[[grants]]", "[[grants"), "not valid TOML"),
        (('name = "mine"', ""), "the key 'name' is missing"),
        (('name = "mine"', 'name = "mine"\nfile = "x"'), "unknown key 'file'"),
    ],
)
def test_mistakes_are_named_by_their_place(tmp_path, changed, said):
    with pytest.raises(ScenarioError, match=said):
        read_scenario(_written(tmp_path, SMALLEST.replace(*changed)))


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('[arrivals]\nkind = "perodic"\nperiod = 1', "'kind' is 'perodic'. Did you mean"),
        ('[arrivals]\nkind = "bursts"\nperiod = 9', "'calls' is 1 and 'kind' 'bursts'"),
        ('[arrivals]\nkind = "periodic"\nperiod = 9\ncalls = 3', "'calls' is 3"),
        ('[arrivals]\nkind = "periodic"', "the key 'period' is missing"),
        ('[arrivals]\nkind = "back-to-back"\nperiod = 2', "'period' is 2, but calls back to"),
        ("[[slowdowns]]\nat_s = 5", "the key 'factor' is missing"),
        (
            "[[slowdowns]]\nat_s = 5\nfactor = 2\n[[slowdowns]]\nat_s = 4\nfactor = 1",
            "'slowdowns' must be in the order of their 'at_s'",
        ),
        (
            "[neighbour]\nperiod_s = 5\nshare = 2\nfactor = 2",
            "'share' must be a number of at most 1",
        ),
        ("[noise]\nlatency = -0.1", "'latency' must be a number of at least 0"),
        ("[meter]\nperiod_s = 0", "'period_s' must be a number above zero"),
        ('[[modes]]\nname = "15W"', "at least two, of different names"),
        ('[[modes]]\nname = "a"\n[[modes]]\nname = "a"', "at least two, of different names"),
        (
            '[[modes]]\nname = "a"\n[[modes]]\nname = "b"\nlatency = 0',
            "modes.1.: 'latency' must be a number above zero",
        ),
        ('[[slowdowns]]\nat_s = 5\nfactor = 2\nmodes = ["15W"]', "there is no mode '15W'"),
        (
            '[[difficulties]]\nat_s = 5\nfactor = 2\nmodes = ["15W"]',
            "'difficulties' have no 'modes'",
        ),
    ],
)
def test_mistakes_in_further_tables_are_named(tmp_path, added, said):
    with pytest.raises(ScenarioError, match=said):
        read_scenario(_written(tmp_path, SMALLEST + added))


def test_slow_downs_are_steps_or_ramps(tmp_path):
    text = SMALLEST + (
        "[[slowdowns]]\nat_s = 2\nfactor = 2\nover_s = 2\n"
        "[[slowdowns]]\nat_s = 6\nfactor = 1\n"
        "[neighbour]\nperiod_s = 4\nshare = 0.25\nfactor = 3\n"
    )
    scenario = read_scenario(_written(tmp_path, text))
    assert scenario.slowdowns == (Change(2, 2, 2), Change(6, 1, 0))
    assert scenario.neighbour == Neighbour(4, 0.25, 3)
    times_s = [0.5, 1.5, 3.0, 4.5, 5.5, 7.0, 8.5]
    found = [scenario.slowdown_at(time_s) for time_s in times_s]
    assert found == pytest.approx([3.0, 1.0, 1.5, 6.0, 2.0, 1.0, 3.0])
    assert scenario.steps_s() == (0.0, 0.0, 0.0, 1.0, 4.0, 5.0, 6.0, 8.0, 9.0)

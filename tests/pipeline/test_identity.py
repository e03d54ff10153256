"""Names by what is computed: equal numbers keep a name whatever the source looks like, other numbers change it."""

import json
import math

import pytest

from emorl.pipeline import identity
from emorl.pipeline.identity import Probe, digest_of, first_difference, identify

TOLERANCE = identity.TOLERANCE


class Laboratory:
    """Probes of numbers and code that a test sets, with a cache and a released file of its own."""

    def __init__(self) -> None:
        self.numbers, self.code, self.measured = [1.25, -3.5e-7], "one", 0

    def identify(self):
        identity._identified.clear()
        identity._released.cache_clear()
        return identify(self.probe())

    def probe(self, subject="emorl"):
        def measure():
            self.measured += 1
            return {"step 0": self.numbers}

        return Probe("training", subject, {"K": 4}, (self.code,), measure)


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "RELEASED", tmp_path / "released.json")
    monkeypatch.setattr(identity, "CACHE", tmp_path / "probes")
    monkeypatch.setattr(identity, "_code", lambda modules: modules[0])
    return Laboratory()


def test_what_was_released_is_not_measured_again(laboratory):
    identity.release([laboratory.probe()])
    released = laboratory.identify()
    assert (released.digest, released.difference) == (released.released, None)
    assert laboratory.measured == 1


def test_other_code_of_the_same_numbers_keeps_the_name_and_is_measured_once(laboratory):
    before = laboratory.identify().digest
    identity.release([laboratory.probe()])
    laboratory.code, laboratory.numbers = "two", [1.25 * (1 + 1e-12), -3.5e-7]  # as on another machine
    assert [laboratory.identify().digest for _ in range(3)] == [before] * 3
    assert laboratory.measured == 2


def test_other_numbers_get_another_name_and_say_what_differs(laboratory):
    identity.release([laboratory.probe()])
    laboratory.code, laboratory.numbers = "two", [1.25, -3.6e-7]
    found = laboratory.identify()
    assert found.digest != found.released
    assert found.difference == "step 0: -3.6e-07, formerly -3.5e-07"


def test_a_change_taken_back_takes_the_name_back(laboratory):
    identity.release([laboratory.probe()])
    before = laboratory.identify().digest
    laboratory.code, laboratory.numbers = "two", [2.0]
    assert laboratory.identify().digest != before
    laboratory.code, laboratory.numbers = "three", [1.25, -3.5e-7]
    assert laboratory.identify().digest == before


def test_renovation_after_a_change_that_is_not_released_keeps_its_name(laboratory):
    laboratory.code, laboratory.numbers = "two", [2.0, 3.0]
    changed = laboratory.identify().digest
    laboratory.code, laboratory.numbers = "three", [2.0 * (1 + 1e-10), 3.0]
    assert laboratory.identify().digest == changed


def test_releasing_a_change_does_not_rename_it(laboratory):
    identity.release([laboratory.probe()])
    laboratory.code, laboratory.numbers = "two", [2.0, 3.0]
    changed = laboratory.identify().digest
    identity.release([laboratory.probe()])
    assert laboratory.identify() == identity.Identity(changed, changed, None)
    assert list(json.loads(identity.RELEASED.read_text())) == [laboratory.probe().key]


def test_a_checkout_that_may_only_be_read_measures_again(laboratory, tmp_path):
    (tmp_path / "probes").write_text("a file where the folder would be")
    assert laboratory.identify().digest == laboratory.identify().digest
    assert laboratory.measured == 2


@pytest.mark.parametrize("apart", [1.01, 1.5, 3, 100])
@pytest.mark.parametrize("number", [1.0, 1.0000000049, 9.9999999, 3.3e-7, -12345.678])
def test_numbers_further_apart_than_the_tolerance_never_share_a_digest(number, apart):
    before, after = {"x": [number]}, {"x": [number * (1 + apart * TOLERANCE)]}
    assert first_difference(before, after, TOLERANCE)
    assert digest_of(before, TOLERANCE) != digest_of(after, TOLERANCE)


def test_what_differs_is_a_number_or_how_many_there_are():
    assert first_difference({"x": [1.0]}, {"x": [1.0 + 1e-11]}, TOLERANCE) is None
    assert first_difference({"x": [math.nan]}, {"x": [math.nan]}, TOLERANCE) is None
    assert first_difference({"x": [0.0]}, {"x": [1e-300]}, TOLERANCE)
    assert first_difference({"x": [1.0]}, {"x": [1.0, 2.0]}, TOLERANCE) == "x: 2 numbers, formerly 1"
    assert first_difference({}, {"geco": [1.0]}, TOLERANCE) == "geco: 1 numbers, formerly 0"


def test_what_is_released_is_what_the_code_is():
    """So that a fresh clone plans at once. `emorl numbers` says which numbers have changed, if any; then
    `emorl numbers --release` is the commit's last step."""
    from emorl.pipeline.release import every_probe

    released = json.loads(identity.RELEASED.read_text())
    probes = every_probe()
    assert {probe.key for probe in probes} == released.keys()
    assert [probe.key for probe in probes if probe.code != released[probe.key]["code"]] == []

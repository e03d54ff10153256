"""What Figure 10's benchmark says of the systems beside their speed."""

import pytest

from benchmarks.figure10 import parameters_of


@pytest.mark.parametrize(
    ("system", "parameters"),
    [
        ("EfficientMORL I=0", 666_502),
        ("EfficientMORL I=3", 666_502),
        ("EfficientMORL I=3 E-X-S", 1_031_110),
        ("IODINE", 2_757_264),  # "approximately 2.75M", App. E.3
        ("IODINE, reference", 1_178_192),
    ],
)
def test_parameters_are_those_of_the_system_in_question(system, parameters):
    assert parameters_of(system) == parameters

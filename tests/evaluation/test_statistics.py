"""Statistics over seeds against SciPy's own tests, against simulation, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emorl.evaluation.parts.statistics import (
    CONSISTENT_MEAN,
    CONSISTENT_SPREAD,
    WIDEST,
    Comparison,
    Other,
    failure_interval,
    holm,
    seeds_to_decide,
    simulate,
    summarise,
)

OURS = np.array([97.0, 95.5, 96.1, 98.3, 96.9])
THEIRS = np.array([96.2, 94.1, 97.9, 95.0, 97.5, 96.6])


def of_sample(values, low, high, other=None, draw=False):
    return Comparison(values.mean(), values.std(ddof=1), len(values), low, high, other, draw)


def test_the_t_interval_is_scipys():
    values = [98.0, 97.1, 99.4, 96.0, 98.8]
    summary = summarise(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))
    assert summary.std == pytest.approx(np.std(values, ddof=1))
    assert of_sample(np.array(values), 0, 1).interval() == pytest.approx((low, high))


def test_few_seeds_have_no_spread():
    assert (summarise([]).mean, summarise([]).n) == (None, 0)
    assert (summarise([5.0]).mean, summarise([5.0]).std, summarise([5.0]).low) == (5.0, None, None)


def test_an_interval_takes_three_seeds():
    two, three = summarise([5.0, 7.0]), summarise([5.0, 7.0, 6.0])
    assert (two.mean, two.std, two.low, two.high) == (6.0, pytest.approx(2**0.5), None, None)
    assert three.low == pytest.approx(6 - 4.302653 / 3**0.5)


def test_the_t_interval_covers_at_five_seeds():
    draws = np.random.default_rng(0).normal(3, 2, (1000, 5))
    covered = [summary.low <= 3 <= summary.high for summary in map(summarise, draws.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("margin", [0.2, 1.0, 3.0])
def test_equivalence_is_two_one_sided_welch_tests(margin):
    other = Other(THEIRS.std(ddof=1), len(THEIRS), ours=False)
    comparison = of_sample(OURS, THEIRS.mean() - margin, THEIRS.mean() + margin, other)
    above = stats.ttest_ind(OURS + margin, THEIRS, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(OURS - margin, THEIRS, equal_var=False, alternative="less").pvalue
    assert comparison.p_inside == pytest.approx(max(above, below))


def test_equivalence_with_a_number_is_two_one_sided_tests():
    comparison = of_sample(OURS, 95, 98)
    above = stats.ttest_1samp(OURS, 95, alternative="greater").pvalue
    below = stats.ttest_1samp(OURS, 98, alternative="less").pvalue
    assert comparison.p_inside == pytest.approx(max(above, below))


def test_outside_a_range_of_no_width_is_the_two_sided_test():
    assert of_sample(OURS, 95.5, 95.5).p_outside == pytest.approx(stats.ttest_1samp(OURS, 95.5).pvalue)
    assert of_sample(OURS, 98.5, 98.5).p_outside == pytest.approx(stats.ttest_1samp(OURS, 98.5).pvalue)


def test_a_one_sided_range_is_a_one_sided_test():
    comparison = of_sample(OURS, 96, math.inf)
    assert comparison.p_inside == pytest.approx(stats.ttest_1samp(OURS, 96, alternative="greater").pvalue)
    assert comparison.p_outside == pytest.approx(stats.ttest_1samp(OURS, 96, alternative="less").pvalue)


def test_the_welch_interval_is_scipys():
    other = Other(THEIRS.std(ddof=1), len(THEIRS), ours=True)
    difference = of_sample(OURS - THEIRS.mean(), 0, math.inf, other)
    expected = stats.ttest_ind(OURS, THEIRS, equal_var=False).confidence_interval(0.95)
    assert difference.interval() == pytest.approx((expected.low, expected.high))


def test_a_single_draw_is_covered_by_the_prediction_interval():
    draws = np.random.default_rng(1).normal(0, 1, (1000, 6))
    intervals = [of_sample(draw[:5], -1, 1, draw=True).interval() for draw in draws]
    covered = [low <= draw[5] <= high for (low, high), draw in zip(intervals, draws, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_seeds_without_spread_are_decided():
    assert of_sample(np.ones(3), 0, 2).p_inside == 0
    assert of_sample(np.ones(3), 2, 3).p_outside == 0
    assert of_sample(np.ones(3), 2, 3).p_inside == 1


def test_seeds_without_spread_that_lie_on_the_bound_say_nothing():
    on_it = of_sample(np.zeros(3), 0, math.inf)
    assert (on_it.p_inside, on_it.p_outside) == (0.5, 0.5)
    assert of_sample(np.ones(3), 1, 1).p_outside == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1, len(p_values) * p) for p, a in zip(p_values, adjusted, strict=True))
    by_p = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


def test_the_failure_interval_is_clopper_and_pearsons():
    low, high = failure_interval(2, 5)
    assert (low, high) == pytest.approx((stats.beta.ppf(0.025, 2, 4), stats.beta.ppf(0.975, 3, 3)))
    assert failure_interval(0, 5) == pytest.approx((0, 1 - 0.025**0.2))


def chance(comparison, printed, alpha=0.05):
    return simulate([comparison], alpha, printed).decided.mean()


@pytest.mark.parametrize(("n", "margin"), [(5, 1.5), (5, 2.0), (10, 2.0), (3, 2.0)])
def test_power_is_that_of_simulated_seeds(n, margin):
    """Seed by seed, where `simulate` draws means and spreads; the paper's five are drawn, too."""
    generator = np.random.default_rng(2)
    comparison = Comparison(0.0, 1.0, n, -margin, margin, Other(1.0, 5, ours=False))
    decided = 0
    for paper, ours in zip(generator.normal(0, 1, (600, 5)), generator.normal(0, 1, (600, n)), strict=True):
        other = Other(paper.std(ddof=1), 5, ours=False)
        drawn = of_sample(ours, paper.mean() - margin, paper.mean() + margin, other)
        decided += min(drawn.p_inside, drawn.p_outside) <= 0.05
    assert chance(comparison, printed=True) == pytest.approx(decided / 600, abs=0.05)


def test_a_family_is_simulated_as_it_is_judged():
    """By the step-down procedure, not by its first step alone: claims that are decided ease the way of the others."""
    family = [Comparison(mean, 1.0, 5, 0.0, math.inf) for mean in (5.0, 5.0, 5.0, 1.5)]
    generator, decided = np.random.default_rng(3), np.zeros(4)
    for _ in range(600):
        drawn = [of_sample(generator.normal(c.estimate, 1, 5), 0.0, math.inf) for c in family]
        decided += np.array(holm([min(c.p_inside, c.p_outside) for c in drawn])) <= 0.05
    found = simulate(family, 0.05, printed=False).decided.mean(0)
    np.testing.assert_allclose(found, decided / 600, atol=0.05)
    first_step = simulate([family[-1]], 0.05 / 4, printed=False).decided.mean()
    assert found[-1] > first_step + 0.1
    assert simulate([family[-1]], 0.05, printed=False, never=3).decided.mean() == pytest.approx(first_step)


def test_five_printed_seeds_cannot_show_equivalence_within_one_deviation():
    many = Comparison(0.0, 1.0, 100, -1.0, 1.0, Other(1.0, 5, ours=False))
    assert chance(many, printed=True) < 0.3
    narrow = Comparison(0.0, 1.0, 100, -0.95, 0.95, Other(1.0, 5, ours=False))
    assert (many.undecidable, narrow.undecidable) == (False, True)  # 2.13 / sqrt(5) = 0.953
    assert narrow.with_seeds(10**6).p_inside > 0.05 - 1e-6
    assert not Comparison(0.0, 1.0, 5, -0.1, 0.1, Other(1.0, 5, ours=True)).undecidable


def of_the_same_law(ours, theirs):
    """SciPy's t and F tests along the last axis, our spread counted as at most WIDEST times theirs."""
    (mean, std, n), (other_mean, other_std, m) = (
        (sample.mean(-1), sample.std(-1, ddof=1), sample.shape[-1]) for sample in (ours, theirs)
    )
    counted = np.minimum(std, WIDEST * other_std)
    t_test = stats.ttest_ind_from_stats(mean, counted, n, other_mean, other_std, m).pvalue > CONSISTENT_MEAN
    return t_test & (stats.f.sf((std / other_std) ** 2, n - 1, m - 1) > CONSISTENT_SPREAD)


def test_consistent_is_a_two_sample_t_test_and_an_f_test():
    theirs, found = THEIRS - THEIRS.mean(), []
    for shift, spread in [(0, 1), (1.5, 1), (1.9, 1), (0, 3), (0, 9), (3, 3), (3.2, 3.4)]:
        ours = shift + spread * (OURS - OURS.mean())
        comparison = of_sample(ours, -1, 1, Other(theirs.std(ddof=1), len(theirs), ours=False))
        assert comparison.consistent == of_the_same_law(ours, theirs), (shift, spread)
        found.append(comparison.consistent)
    assert found == [True, True, False, True, False, True, False]  # the last by SciPy's t test alone would be


def test_a_wide_spread_of_ours_does_not_excuse_a_mean_that_is_off():
    theirs = Other(1.0, 5, ours=False)
    wide, wider = (Comparison(3.0, std, 5, -2.0, 2.0, theirs) for std in (2.0, 3.5))
    assert stats.ttest_ind_from_stats(3.0, wider.std, 5, 0.0, 1.0, 5).pvalue > CONSISTENT_MEAN
    assert (wide.consistent, wider.consistent) == (False, False)


@pytest.mark.parametrize(("n", "paper"), [(5, 5), (10, 10), (10, 5)])
def test_a_perfect_reproduction_is_consistent_as_often_as_seed_by_seed(n, paper):
    generator, other = np.random.default_rng(4), Other(1.0, paper, ours=False)
    ours, theirs = (generator.normal(0, 1, (20_000, size)) for size in (n, paper))
    perfect, off = (
        simulate([Comparison(shift, 1.0, n, -2.0, 2.0, other)], 0.05, True, draws=20_000) for shift in (0, 2)
    )
    assert perfect.consistent.mean() == pytest.approx(of_the_same_law(ours, theirs).mean(), abs=0.005)
    assert off.consistent.mean() < (0.24 if n == paper == 5 else 0.1)


def test_an_estimate_that_two_seeds_left_open_needs_more():
    """Far outside of a range much narrower than the error, where the test of "outside" has two tails."""
    comparison = Comparison(12.3, 12.0, 2, 94.6, 101.8, Other(1.8, 5, ours=False))
    assert min(comparison.p_inside, comparison.p_outside) > 0.05
    assert chance(comparison, printed=False) < 0.6
    assert seeds_to_decide([comparison], 0.05)[0] > 2


def test_seeds_to_decide_is_the_least_number_that_probably_does():
    comparison = Comparison(0.5, 1.0, 3, 0.0, math.inf)
    (n,) = seeds_to_decide([comparison], 0.05)
    powers = [chance(comparison.with_seeds(m), printed=False) for m in (n - 1, n)]
    assert powers[0] < 0.8 <= powers[1]
    assert seeds_to_decide([Comparison(0.001, 1.0, 3, 0.0, math.inf)], 0.05) == [None]


def test_seeds_to_decide_count_the_family_that_nothing_is_known_of():
    comparison, never_decided = Comparison(1.0, 1.0, 2, 0.0, math.inf), 9
    (n,) = seeds_to_decide([comparison], 0.05, never=never_decided)
    assert n > seeds_to_decide([comparison], 0.05)[0]
    assert chance(comparison.with_seeds(n), printed=False, alpha=0.05 / (1 + never_decided)) >= 0.8


def test_more_of_our_seeds_leave_the_papers_as_they_are():
    ours, papers = (
        Comparison(0.0, 1.0, 3, -1.0, 1.0, Other(1.0, 5, ours=flag)).with_seeds(9) for flag in (True, False)
    )
    assert (ours.n, ours.other.n, papers.n, papers.other.n) == (9, 9, 9, 5)

"""The numeric figures draw what the measures say: lines, intervals, seeds, what is missing; saving is reproducible."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl.reporting.curves import loss_curves, seeds_text, training_curves
from emorl.reporting.graphical_models import NODES, priors
from emorl.reporting.style import COLUMN_WIDTH, PAGE_WIDTH, looks, save
from emorl.reporting.sweeps import layer_sweep, refinement_sweep
from emorl.reporting.timings import timings, timings_of_one_size

NOTE = "replica data, scale test, a test"
COLUMNS = ["label", "seed", "at", "metric", "value"]


def measures(values, metric, label="EfficientMORL"):
    """Rows of `values` (seeds, points): point p lies at p."""
    return pd.DataFrame(
        [(label, seed, float(at), metric, float(value)) for (seed, at), value in np.ndenumerate(values)],
        columns=COLUMNS,
    )


def failed(seed, label="EfficientMORL", at=float("nan")):
    return pd.DataFrame([(label, seed, at, "failed", 1.0)], columns=COLUMNS)


def t_interval(values):
    return stats.t.interval(0.95, len(values) - 1, values.mean(0), stats.sem(values, axis=0))


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def band(axes):
    """Lower and upper edge of the only band, by x."""
    (drawn,) = axes.collections
    points = drawn.get_paths()[0].vertices
    edges = pd.DataFrame(points).groupby(0)[1]
    return edges.min().to_numpy(), edges.max().to_numpy()


def legend_texts(figure):
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def note(figure):
    return figure.get_supxlabel().replace("\n", " ")


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(50, 5, (5, 8))


class TestLossCurves:
    def test_line_is_the_mean_and_band_the_t_interval(self, values):
        whole, late = loss_curves(measures(values, "loss"), NOTE).axes
        drawn = line(whole, "EfficientMORL (5 seeds)")
        np.testing.assert_array_equal(drawn.get_xdata(orig=False), np.arange(8))
        np.testing.assert_allclose(drawn.get_ydata(orig=False), values.mean(0))
        np.testing.assert_allclose(band(whole), t_interval(values))
        np.testing.assert_allclose(line(late, "EfficientMORL (5 seeds)").get_ydata(orig=False), values.mean(0)[4:])

    def test_rows_may_come_in_any_order(self, values):
        frame = measures(values, "loss").sample(frac=1, random_state=0)
        np.testing.assert_allclose(loss_curves(frame, NOTE).axes[0].lines[0].get_ydata(orig=False), values.mean(0))

    def test_one_seed_is_a_thin_line_without_interval(self, values):
        one, several = (loss_curves(measures(values[:n], "loss"), NOTE) for n in (1, 5))
        assert one.axes[0].lines[0].get_linewidth() < several.axes[0].lines[0].get_linewidth()
        assert legend_texts(one) == ["EfficientMORL (1 seed)"]
        assert legend_texts(several) == ["EfficientMORL (5 seeds)", "95 % t interval of the mean"]

    def test_failed_seeds_are_counted_and_labels_without_data_named(self, values):
        frame = pd.concat([failed(0, "I = 0"), measures(values[:2], "loss", "I = 1"), failed(2, "I = 1")])
        figure = loss_curves(frame, NOTE)
        assert legend_texts(figure)[0] == "I = 1 (2 of 3 seeds)"
        assert note(figure).startswith(f"{NOTE}. Left out, without data: I = 0 (0 of 1 seeds).")

    def test_what_a_run_measured_before_it_failed_is_left_out(self, values):
        frame = pd.concat([measures(values, "loss"), failed(4)])
        figure = loss_curves(frame, NOTE)
        drawn = line(figure.axes[0], "EfficientMORL (4 of 5 seeds)")
        np.testing.assert_allclose(drawn.get_ydata(orig=False), values[:4].mean(0))

    @pytest.mark.parametrize(
        ("losses", "scale"),
        [([50, 49, 48, 47], "linear"), ([1e6, 50, 40, 30], "log"), ([1e6, -50, -60, -70], "symlog")],
    )
    def test_axis_is_logarithmic_only_over_orders_of_magnitude(self, losses, scale):
        whole, late = loss_curves(measures(np.array([losses]), "loss"), NOTE).axes
        assert (whole.get_yscale(), late.get_yscale()) == (scale, "linear")

    def test_every_seed_lies_within_the_axes_and_wide_intervals_do_not_squeeze_them(self, values):
        figure = loss_curves(measures(values[:2], "loss"), NOTE)
        low, high = figure.axes[0].get_ylim()
        span = np.ptp(values[:2])
        assert low < values[:2].min()
        assert values[:2].max() < high
        assert high - low < 2.5 * span
        assert note(figure).endswith("Intervals reach beyond the axes.")
        assert "beyond" not in note(loss_curves(measures(values, "loss"), NOTE))

    def test_constant_values_get_an_axis(self):
        low, high = loss_curves(measures(np.zeros((3, 4)), "loss"), NOTE).axes[0].get_ylim()
        assert low < 0 < high


class TestTrainingCurves:
    def test_a_line_per_seed_and_the_mean_of_each_update(self, values):
        frame = pd.concat([measures(values * i, f"update_norm_{i}") for i in (10, 1, 2)] + [measures(values, "kl")])
        kl, norms = training_curves(frame, NOTE).axes
        for seed in range(5):
            np.testing.assert_array_equal(line(kl, str(seed)).get_ydata(orig=False), values[seed])
        assert [drawn.get_label() for drawn in norms.lines] == ["$i$ = 1", "$i$ = 2", "$i$ = 10"]
        np.testing.assert_allclose(line(norms, "$i$ = 10").get_ydata(orig=False), 10 * values.mean(0))
        assert norms.get_legend().get_title().get_text() == "b) Updates: mean, 95 % t interval (5 seeds)"

    def test_updates_end_where_the_curriculum_drops_them(self, values):
        frame = pd.concat([measures(values, "update_norm_1"), measures(values[:, :3], "update_norm_2")])
        norms = training_curves(frame, NOTE).axes[1]
        assert line(norms, "$i$ = 2").get_xdata(orig=False).max() == 2

    def test_one_seed_has_no_interval(self, values):
        frame = pd.concat([measures(values[:1], "kl"), measures(values[:1], "update_norm_1"), failed(1)])
        figure = training_curves(frame, NOTE)
        assert figure.axes[1].get_legend().get_title().get_text() == "b) Updates (1 of 2 seeds)"


class TestRefinementSweep:
    def test_means_intervals_and_seeds(self, values):
        values = values / 100
        frame = pd.concat([measures(values, metric) for metric in ("ari", "mse", "kl")])
        ari, mse, kl = refinement_sweep(frame, NOTE).axes
        for axes, factor in ((ari, 100), (mse, 1e4), (kl, 1)):
            (container,) = axes.containers
            mean, _, (bars,) = container.lines
            np.testing.assert_allclose(mean.get_ydata(orig=False), factor * values.mean(0))
            ends = np.array([segment[:, 1] for segment in bars.get_segments()]).T
            np.testing.assert_allclose(ends, factor * np.array(t_interval(values)))
            dots = axes.collections[-1].get_offsets()
            np.testing.assert_allclose(np.sort(dots[:, 1]), np.sort(factor * values.ravel()))

    def test_clevr10_has_a_panel_only_where_measured(self, values):
        frame = pd.concat([measures(values, metric) for metric in ("ari", "mse", "kl", "ari_clevr10")])
        labels = [axes.get_ylabel() for axes in refinement_sweep(frame, NOTE).axes]
        assert len(labels) == 4
        assert labels[2] == "ARI × 100 on CLEVR10"

    def test_labels_keep_their_look_and_stand_side_by_side(self, values):
        frame = pd.concat(
            [failed(0, "a"), *(measures(values[:1], m, label) for m in ("ari", "mse") for label in ("b", "c"))]
        )
        figure = refinement_sweep(frame, NOTE)
        ari, _, kl = figure.axes
        b, c = (container.lines[0] for container in ari.containers)
        assert b.get_color() == looks("abc")["b"]["color"]
        assert (c.get_xdata(orig=False) > b.get_xdata(orig=False)).all()
        assert legend_texts(figure) == ["b (1 seed)", "c (1 seed)"]
        assert "Left out, without data: a (0 of 1 seeds)" in note(figure)
        assert [text.get_text() for text in kl.texts] == ["no data"]


class TestLayerSweep:
    def test_seeds_are_counted_for_each_L(self, values):
        frame = pd.concat([measures(values[:, :3] / 100, "ari"), failed(5, at=1.0), failed(0, at=3.0)])
        (axes,) = layer_sweep(frame, NOTE).axes
        texts = [text.get_text() for text in axes.get_xticklabels()]
        assert texts == ["0\n5 seeds", "1\n5/6 seeds", "2\n5 seeds", "3\n0/1 seeds"]
        mean = axes.containers[0].lines[0]
        np.testing.assert_allclose(mean.get_ydata(orig=False), values[:, :3].mean(0))
        np.testing.assert_array_equal(mean.get_xdata(orig=False), [0, 1, 2])

    def test_one_seed(self, values):
        figure = layer_sweep(measures(values[:1] / 100, "ari"), NOTE)
        assert legend_texts(figure) == ["a seed"]
        np.testing.assert_allclose(figure.axes[0].containers[0].lines[0].get_ydata(orig=False), values[0])


def benchmark(sizes, systems):
    metrics = ("forward_s", "training_s", "training_largest_batch")
    rows = [
        (system, 0, float(size), metric, (n + 1) * size * (m + 1) / 100)
        for size in sizes
        for n, system in enumerate(systems)
        for m, metric in enumerate(metrics)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


class TestTimingFigure:
    def test_a_dot_per_system_size_and_mode(self):
        panels = np.reshape(timings(benchmark([64, 96], ["IODINE", "GENESIS"]), NOTE).axes, (2, 3))
        for size, row in zip((64, 96), panels, strict=True):
            for m, axes in enumerate(row):
                np.testing.assert_allclose(axes.lines[0].get_xdata(orig=False), np.array([1, 2]) * size * (m + 1) / 100)
                assert axes.get_xscale() == ("linear" if m == 2 else "log")
                assert f"{size} px" in axes.get_title()
        assert [text.get_text() for text in panels[0, 0].get_yticklabels()] == ["IODINE", "GENESIS"]
        assert panels[0, 0].yaxis.get_inverted()

    def test_missing_combinations(self):
        frame = benchmark([64, 96], ["IODINE", "GENESIS"])
        frame = frame[(frame["at"] == 64) | (frame["label"] == "GENESIS")]
        figure = timings(pd.concat([frame, failed(0, "MONet")]), NOTE)
        assert "not measured" in [text.get_text() for text in figure.axes[3].texts]
        assert "not measured" not in [text.get_text() for text in figure.axes[0].texts]
        assert note(figure).endswith("Left out, not measured: MONet.")

    def test_one_size_is_the_largest_and_systems_that_lack_it_are_named(self):
        frame = pd.concat([benchmark([64, 128, 96], ["IODINE", "GENESIS"]), benchmark([64], ["MONet"])])
        figure = timings_of_one_size(frame, NOTE)
        assert [axes.get_title() for axes in figure.axes] == [
            "forward, 128 px",
            "forward + backward, 128 px",
            "largest batch, 128 px",
        ]
        assert note(figure).endswith("Left out, not measured: MONet.")

    def test_a_mode_that_nobody_measured_leaves_the_others_alone(self):
        frame = benchmark([64], ["IODINE", "GENESIS"])
        figure = timings(frame[frame["metric"] != "training_s"], NOTE)
        figure.draw_without_rendering()
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["IODINE", "GENESIS"]


def test_priors_are_the_papers():
    figure = priors()
    captions = [axes.texts[-1].get_text() for axes in figure.axes]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "a) bottom-up prior",
        "b) reversed prior",
        "c) reversed prior++",
    ]
    assert r"p_\theta(\mathbf{z}^3 \mid \mathbf{z}^2)" in captions[0]
    assert r"p(\mathbf{z}^3)" in captions[1]
    assert r"p_\theta(\mathbf{z}^1 \mid \mathbf{z}^2)" in captions[2]
    circles = [patch for patch in figure.axes[0].patches if hasattr(patch, "center")]
    assert len(circles) == len(NODES)


EMPTY = pd.DataFrame(columns=COLUMNS).astype({"at": float, "value": float, "seed": int})


@pytest.mark.parametrize("draw", [loss_curves, training_curves, refinement_sweep, layer_sweep, timings])
@pytest.mark.parametrize("frame", [EMPTY, failed(0)], ids=["no rows", "all failed"])
def test_without_data_every_panel_says_so(draw, frame):
    figure = draw(frame, NOTE)
    figure.draw_without_rendering()
    assert all("no data" in [text.get_text() for text in axes.texts] for axes in figure.axes)
    assert note(figure).startswith(NOTE)


@pytest.mark.parametrize(
    ("draw", "width"),
    [
        (loss_curves, PAGE_WIDTH),
        (training_curves, PAGE_WIDTH),
        (refinement_sweep, PAGE_WIDTH),
        (layer_sweep, COLUMN_WIDTH),
        (timings, PAGE_WIDTH),
    ],
)
def test_figures_are_as_wide_as_the_column_or_the_page(values, draw, width):
    metrics = ("loss", "kl", "update_norm_1", "ari", "mse")
    frame = pd.concat([*(measures(values / 100, metric) for metric in metrics), failed(5, at=0.0)])
    figure = draw(benchmark([64], ["EfficientMORL I=3 E-X-S", "GENESIS"]) if draw is timings else frame, NOTE)
    figure.draw_without_rendering()
    assert width * 0.95 < figure.get_tightbbox().width < width + 0.05


def test_seeds_text(values):
    frame = pd.concat([measures(values[:2], "ari"), failed(2)])
    assert seeds_text(frame, ["ari"]) == "2 of 3 seeds"
    assert seeds_text(frame[:8], ["ari"]) == "1 seed"
    assert seeds_text(frame, ["mse"]) == "0 of 1 seeds"


SAVE = """
import sys, pathlib
import pandas as pd
from emorl.reporting.sweeps import layer_sweep
from emorl.reporting.style import save
save(layer_sweep(pd.read_csv(sys.argv[1]), "note"), pathlib.Path(sys.argv[2]))
"""


def test_the_same_data_give_the_same_bytes_at_another_time_in_another_process(values, tmp_path):
    measures(values / 100, "ari").to_csv(tmp_path / "measures.csv", index=False)
    save(layer_sweep(pd.read_csv(tmp_path / "measures.csv"), "note"), tmp_path / "here.v1")
    environment = os.environ | {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "1000000000"}
    arguments = [str(tmp_path / "measures.csv"), str(tmp_path / "there.v1")]
    subprocess.run([sys.executable, "-c", SAVE, *arguments], check=True, env=environment)
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"here.v1.{suffix}").read_bytes() == (tmp_path / f"there.v1.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 5
    assert b"CreationDate" not in (tmp_path / "here.v1.pdf").read_bytes()

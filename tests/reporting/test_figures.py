"""The numeric figures draw what the metrics say: lines, intervals, seeds, what is missing; saving is reproducible."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl.pipeline import config
from emorl.reporting.figures import check_drawings, drawing_modules, find_drawing, modules_of
from emorl.reporting.figures.curves import learning_curves, loss_curves, training_curves
from emorl.reporting.figures.graphical_models import NODES, priors
from emorl.reporting.figures.lines import seeds_text
from emorl.reporting.figures.quantiles import quantiles
from emorl.reporting.figures.style import COLUMN_WIDTH, PAGE_WIDTH, looks, save
from emorl.reporting.figures.sweeps import layer_sweep, refinement_sweep
from emorl.reporting.figures.timings import timings, timings_of_one_size
from emorl.runtime.errors import UserError

NOTE = "replica data, scale test, a test"
COLUMNS = ["label", "seed", "at", "metric", "value"]


def numbers(values, metric, label="EfficientMORL"):
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


KNOW = """
import sys
from emorl.reporting.figures import drawing_modules
print("loss_curves" in drawing_modules(), "matplotlib" in sys.modules)
"""


class TestRegistry:
    def test_every_artifact_is_drawn_by_a_function_that_is_found_by_its_name(self):
        drawn = {name: artifact.draw for name, artifact in config.load_experiments().artifacts.items()}
        check_drawings(drawn)
        for name in drawn.values():
            drawing = find_drawing(name)
            assert drawing.draw.__module__ == drawing_modules()[name]
            assert drawing.draw.__module__ in modules_of(name)

    def test_to_know_the_drawings_imports_none(self):
        found = subprocess.run([sys.executable, "-c", KNOW], check=True, capture_output=True, text=True)
        assert found.stdout == "True False\n"

    def test_an_unknown_one_is_told_in_a_sentence(self):
        sentence = r"^params/experiments\.yaml: artifacts\.fig3\.draw is 'los_curves'; must be one of .*loss_curves, "
        with pytest.raises(UserError, match=sentence):
            check_drawings({"table1": "table", "fig3": "los_curves"})


class TestQuantiles:
    def test_each_seed_and_the_mean_of_every_system(self, values):
        frame = numbers(values / 100, "fg_ari_quantile", "EfficientMORL").assign(dataset_title="CLEVR6")
        bad = failed(2, "EfficientMORL").assign(dataset_title="CLEVR6")
        (axes,) = quantiles(pd.concat([frame, bad]), NOTE).axes
        kept = np.delete(values, 2, axis=0)
        assert len(axes.lines) == len(kept) + 1
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), kept.mean(0))


class TestLearningCurves:
    def frame(self, values):
        """FG-ARI of two systems on one data set, and of one of them on another."""
        parts = {("EfficientMORL", "CLEVR6"): values, ("IODINE", "CLEVR6"): values / 2, ("IODINE", "Other"): values / 4}
        named = [
            numbers(part / 100, "validation_fg_ari", label).assign(dataset_title=title)
            for (label, title), part in parts.items()
        ]
        return pd.concat(named, ignore_index=True)

    def test_each_seed_and_the_mean_of_every_system(self, values):
        figure = learning_curves(self.frame(values), NOTE)
        clevr6, other = figure.axes
        assert [axes.get_title() for axes in figure.axes] == ["CLEVR6", "Other"]
        np.testing.assert_allclose(line(clevr6, "EfficientMORL").get_ydata(), values.mean(0))
        assert len(clevr6.lines) == 2 * (5 + 1)
        assert len(other.lines) == 5 + 1
        assert line(other, "IODINE").get_color() == line(clevr6, "IODINE").get_color()
        assert legend_texts(figure) == ["EfficientMORL", "IODINE", "a seed"]

    def test_a_seed_that_failed_on_one_data_set_is_shown_on_the_other(self, values):
        frame = pd.concat([self.frame(values), failed(2, "IODINE").assign(dataset_title="CLEVR6")])
        clevr6, other = learning_curves(frame, NOTE).axes
        assert len(clevr6.lines) == 5 + 1 + 4 + 1
        assert len(other.lines) == 5 + 1

    def test_runs_that_were_not_scored_are_named_and_metrics_that_a_system_has_not(self, values):
        frame = self.frame(values)
        kl = frame[frame["label"] == "EfficientMORL"].assign(metric="validation_kl")
        frame.loc[(frame["seed"] == 2) & (frame["dataset_title"] == "Other"), "metric"] = "loss"
        said = " ".join(note(learning_curves(pd.concat([frame, kl], ignore_index=True), NOTE)).split())
        assert said == f"{NOTE}. IODINE on Other, seed 2: not scored while it trained; IODINE: no KL (nats)."

    def test_nothing_is_said_of_runs_where_none_was_scored(self, values):
        assert note(learning_curves(numbers(values, "loss").assign(dataset_title="CLEVR6"), NOTE)) == f"{NOTE}."

    def test_metrics_have_rows_and_none_is_said(self, values):
        frame = self.frame(values)
        both = pd.concat([frame, frame.assign(metric="validation_mse")])
        assert [axes.get_ylabel() for axes in learning_curves(both, NOTE).axes if axes.get_ylabel()] == [
            "FG-ARI × 100", r"MSE ($\times\,10^{-4}$)"
        ]  # fmt: skip
        empty = learning_curves(frame.assign(metric="loss"), NOTE)
        assert [text.get_text() for text in empty.axes[0].texts] == ["no data"]


class TestLossCurves:
    def test_line_is_the_mean_and_band_the_t_interval(self, values):
        whole, late = loss_curves(numbers(values, "loss"), NOTE).axes
        drawn = line(whole, "EfficientMORL (5 seeds)")
        np.testing.assert_array_equal(drawn.get_xdata(orig=False), np.arange(8))
        np.testing.assert_allclose(drawn.get_ydata(orig=False), values.mean(0))
        np.testing.assert_allclose(band(whole), t_interval(values))
        np.testing.assert_allclose(line(late, "EfficientMORL (5 seeds)").get_ydata(orig=False), values.mean(0)[4:])

    def test_the_elbo_has_a_panel_of_its_own_where_it_is_known(self, values):
        frame = pd.concat([numbers(values, "loss"), numbers(-values, "elbo")])
        _, _, elbo = loss_curves(frame, NOTE).axes
        drawn = line(elbo, "EfficientMORL (5 seeds)")
        np.testing.assert_allclose(drawn.get_ydata(orig=False), -values.mean(0)[4:])
        assert elbo.get_ylabel() == "ELBO (nats per image)"

    def test_rows_may_come_in_any_order(self, values):
        frame = numbers(values, "loss").sample(frac=1, random_state=0)
        np.testing.assert_allclose(loss_curves(frame, NOTE).axes[0].lines[0].get_ydata(orig=False), values.mean(0))

    def test_one_seed_is_a_thin_line_without_interval(self, values):
        one, several = (loss_curves(numbers(values[:n], "loss"), NOTE) for n in (1, 5))
        assert one.axes[0].lines[0].get_linewidth() < several.axes[0].lines[0].get_linewidth()
        assert legend_texts(one) == ["EfficientMORL (1 seed)"]
        assert legend_texts(several) == ["EfficientMORL (5 seeds)", "95 % t interval of the mean"]

    def test_failed_seeds_are_counted_and_labels_without_data_named(self, values):
        frame = pd.concat([failed(0, "I = 0"), numbers(values[:2], "loss", "I = 1"), failed(2, "I = 1")])
        figure = loss_curves(frame, NOTE)
        assert legend_texts(figure)[0] == "I = 1 (2 of 3 seeds)"
        assert note(figure).startswith(f"{NOTE}. Left out, without data: I = 0 (0 of 1 seeds).")

    def test_what_a_run_measured_before_it_failed_is_left_out(self, values):
        frame = pd.concat([numbers(values, "loss"), failed(4)])
        figure = loss_curves(frame, NOTE)
        drawn = line(figure.axes[0], "EfficientMORL (4 of 5 seeds)")
        np.testing.assert_allclose(drawn.get_ydata(orig=False), values[:4].mean(0))

    @pytest.mark.parametrize(
        ("losses", "scale"),
        [([50, 49, 48, 47], "linear"), ([1e6, 50, 40, 30], "log"), ([1e6, -50, -60, -70], "symlog")],
    )
    def test_axis_is_logarithmic_only_over_orders_of_magnitude(self, losses, scale):
        whole, late = loss_curves(numbers(np.array([losses]), "loss"), NOTE).axes
        assert (whole.get_yscale(), late.get_yscale()) == (scale, "linear")

    def test_two_seeds_are_shown_beside_their_mean(self, values):
        figure = loss_curves(numbers(values[:2], "loss"), NOTE)
        assert legend_texts(figure) == ["EfficientMORL (2 seeds)", "a seed"]
        mean, *seeds = (line.get_ydata() for line in figure.axes[0].lines)
        np.testing.assert_allclose(mean, values[:2].mean(0))
        np.testing.assert_allclose(seeds, values[:2])

    def test_thin_lines_beside_bands_are_in_the_legend(self, values):
        frame = pd.concat([numbers(values[:2], "loss", "I = 1"), numbers(values[:3], "loss", "I = 0")])
        assert legend_texts(loss_curves(frame, NOTE))[2:] == ["a seed", "95 % t interval of the mean"]

    def test_every_seed_lies_within_the_axes_and_wide_intervals_do_not_squeeze_them(self, values):
        few = np.full((3, 8), [[50.0], [51.0], [52.0]])
        figure = loss_curves(numbers(few, "loss"), NOTE)
        low, high = figure.axes[0].get_ylim()
        span = np.ptp(few)
        assert low < few.min()
        assert few.max() < high
        assert high - low < 2.5 * span
        assert note(figure).endswith("Intervals reach beyond the axes.")
        assert "beyond" not in note(loss_curves(numbers(values, "loss"), NOTE))

    def test_constant_values_get_an_axis(self):
        low, high = loss_curves(numbers(np.zeros((3, 4)), "loss"), NOTE).axes[0].get_ylim()
        assert low < 0 < high


class TestTrainingCurves:
    def test_a_line_per_seed_and_the_mean_of_each_update(self, values):
        frame = pd.concat([numbers(values * i, f"update_norm_{i}") for i in (10, 1, 2)] + [numbers(values, "kl")])
        kl, norms = training_curves(frame, NOTE).axes
        for seed in range(5):
            np.testing.assert_array_equal(line(kl, str(seed)).get_ydata(orig=False), values[seed])
        assert [drawn.get_label() for drawn in norms.lines] == ["$i$ = 1", "$i$ = 2", "$i$ = 10"]
        np.testing.assert_allclose(line(norms, "$i$ = 10").get_ydata(orig=False), 10 * values.mean(0))
        assert norms.get_legend().get_title().get_text() == "b) Updates: mean, 95 % t interval (5 seeds)"

    def test_updates_end_where_the_curriculum_drops_them(self, values):
        frame = pd.concat([numbers(values, "update_norm_1"), numbers(values[:, :3], "update_norm_2")])
        norms = training_curves(frame, NOTE).axes[1]
        assert line(norms, "$i$ = 2").get_xdata(orig=False).max() == 2

    def test_one_seed_has_no_interval(self, values):
        frame = pd.concat([numbers(values[:1], "kl"), numbers(values[:1], "update_norm_1"), failed(1)])
        figure = training_curves(frame, NOTE)
        assert figure.axes[1].get_legend().get_title().get_text() == "b) Updates (1 of 2 seeds)"


class TestRefinementSweep:
    def test_means_intervals_and_seeds(self, values):
        values = values / 100
        frame = pd.concat([numbers(values, metric) for metric in ("fg_ari", "mse", "kl")])
        fg_ari, mse, kl = refinement_sweep(frame, NOTE).axes
        for axes, factor in ((fg_ari, 100), (mse, 1e4), (kl, 1)):
            (container,) = axes.containers
            mean, _, (bars,) = container.lines
            np.testing.assert_allclose(mean.get_ydata(orig=False), factor * values.mean(0))
            ends = np.array([segment[:, 1] for segment in bars.get_segments()]).T
            np.testing.assert_allclose(ends, factor * np.array(t_interval(values)))
            dots = axes.collections[-1].get_offsets()
            np.testing.assert_allclose(np.sort(dots[:, 1]), np.sort(factor * values.ravel()))

    def test_clevr10_has_a_panel_only_where_measured(self, values):
        frame = pd.concat([numbers(values, metric) for metric in ("fg_ari", "mse", "kl", "fg_ari_clevr10")])
        labels = [axes.get_ylabel() for axes in refinement_sweep(frame, NOTE).axes]
        assert len(labels) == 4
        assert labels[2] == "FG-ARI × 100 on CLEVR10"

    def test_labels_keep_their_look_and_stand_side_by_side(self, values):
        frame = pd.concat(
            [failed(0, "a"), *(numbers(values[:1], m, label) for m in ("fg_ari", "mse") for label in ("b", "c"))]
        )
        figure = refinement_sweep(frame, NOTE)
        fg_ari, _, kl = figure.axes
        b, c = (container.lines[0] for container in fg_ari.containers)
        assert b.get_color() == looks("abc")["b"]["color"]
        assert (c.get_xdata(orig=False) > b.get_xdata(orig=False)).all()
        assert legend_texts(figure) == ["b (1 seed)", "c (1 seed)"]
        assert "Left out, without data: a (0 of 1 seeds)" in note(figure)
        assert [text.get_text() for text in kl.texts] == ["no data"]


class TestLayerSweep:
    def test_seeds_are_counted_for_each_L(self, values):
        frame = pd.concat([numbers(values[:, :3] / 100, "fg_ari"), failed(5, at=1.0), failed(0, at=3.0)])
        (axes,) = layer_sweep(frame, NOTE).axes
        texts = [text.get_text() for text in axes.get_xticklabels()]
        assert texts == ["0\n5 seeds", "1\n5/6 seeds", "2\n5 seeds", "3\n0/1 seeds"]
        mean = axes.containers[0].lines[0]
        np.testing.assert_allclose(mean.get_ydata(orig=False), values[:, :3].mean(0))
        np.testing.assert_array_equal(mean.get_xdata(orig=False), [0, 1, 2])

    def test_two_seeds_have_no_interval(self, values):
        figure = layer_sweep(numbers(values[:2] / 100, "fg_ari"), NOTE)
        assert legend_texts(figure) == ["mean", "a seed"]
        assert np.isnan(figure.axes[0].containers[0].lines[2][0].get_segments()).all()

    def test_one_seed(self, values):
        figure = layer_sweep(numbers(values[:1] / 100, "fg_ari"), NOTE)
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
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["largest batch", "forward, 128 px", "forward + backward, 128 px"]
        assert legend_texts(figure) == ["IODINE", "GENESIS"]
        np.testing.assert_array_equal(line(figure.axes[0], "GENESIS").get_xdata(orig=False), [64, 96, 128])
        np.testing.assert_allclose(line(figure.axes[0], "GENESIS").get_ydata(orig=False), [3.84, 5.76, 7.68])
        assert note(figure).endswith("Left out, not measured: MONet.")

    def test_a_mode_that_nobody_measured_leaves_the_others_alone(self):
        frame = benchmark([64], ["IODINE", "GENESIS"])
        figure = timings(frame[frame["metric"] != "training_s"], NOTE)
        figure.draw_without_rendering()
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["IODINE", "GENESIS"]


def test_priors_are_the_papers_and_refined_as_it_is_computed():
    figure = priors()
    captions = [axes.texts[-1].get_text() for axes in figure.axes]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "a) bottom-up prior",
        "b) reversed prior",
        "c) reversed prior++",
    ]
    assert r"\mathcal{N}(0, I)" in captions[0]  # the paper's has p(z^3 | z^2): docs/deviations.md
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
    metrics = ("loss", "kl", "update_norm_1", "fg_ari", "mse")
    frame = pd.concat([*(numbers(values / 100, metric) for metric in metrics), failed(5, at=0.0)])
    figure = draw(benchmark([64], ["EfficientMORL I=3 E-X-S", "GENESIS"]) if draw is timings else frame, NOTE)
    figure.draw_without_rendering()
    assert width * 0.95 < figure.get_tightbbox().width < width + 0.05


def test_seeds_text(values):
    frame = pd.concat([numbers(values[:2], "fg_ari"), failed(2)])
    assert seeds_text(frame, ["fg_ari"]) == "2 of 3 seeds"
    assert seeds_text(frame[:8], ["fg_ari"]) == "1 seed"
    assert seeds_text(frame, ["mse"]) == "0 of 1 seeds"


SAVE = """
import sys, pathlib
import pandas as pd
from emorl.reporting.figures.sweeps import layer_sweep
from emorl.reporting.figures.style import save
save(layer_sweep(pd.read_csv(sys.argv[1]), "note"), pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes_at_another_time_in_another_process(values, tmp_path):
    numbers(values / 100, "fg_ari").to_csv(tmp_path / "numbers.csv", index=False)
    save(layer_sweep(pd.read_csv(tmp_path / "numbers.csv"), "note"), tmp_path / "here.v1")
    (tmp_path / "matplotlibrc").write_text("lines.linestyle: --\nfont.size: 30\naxes.facecolor: black\n")
    environment = os.environ | {
        "PYTHONHASHSEED": "1",
        "SOURCE_DATE_EPOCH": "1000000000",
        "MPLBACKEND": "module://a_notebooks",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }
    arguments = [str(tmp_path / "numbers.csv"), str(tmp_path / "there.v1")]
    subprocess.run([sys.executable, "-c", SAVE, *arguments], check=True, env=environment)
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"here.v1.{suffix}").read_bytes() == (tmp_path / f"there.v1.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 6
    assert b"CreationDate" not in (tmp_path / "here.v1.pdf").read_bytes()

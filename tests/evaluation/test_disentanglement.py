"""DCI against scikit-learn, brute force, and codes whose worth is known."""

from itertools import permutations

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from performing import ORIGIN, performed
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.model_selection import train_test_split

from emorl.data import data_set
from emorl.data.store import Split, load_split
from emorl.evaluation.disentanglement import evaluate, match_objects, scalar_factors
from emorl.evaluation.interface import EvaluationJob
from emorl.evaluation.parts.dci import completeness, disentanglement, disentanglement_scores
from emorl.models import Decomposition, Model
from emorl.pipeline import config
from emorl.runtime.errors import UserError

label_maps = arrays(np.uint8, (4, 5), elements=st.integers(0, 4))


# ---- matching ----


def overlaps(truth, prediction, pairs):
    return [
        ((truth == label) & (prediction == slot)).sum() / ((truth == label) | (prediction == slot)).sum()
        for label, slot in pairs
    ]


@settings(max_examples=100, deadline=None)
@given(label_maps, label_maps, st.integers(0, 5))
def test_matching_is_the_best_of_all(truth, prediction, minimum_pixels):
    pairs = match_objects(truth, prediction, minimum_pixels, 0.0)
    objects = [k for k in range(1, 5) if (truth == k).any() and (truth == k).sum() >= minimum_pixels]
    best = max(
        sum(overlaps(truth, prediction, zip(objects, slots, strict=True)))
        for slots in permutations(range(5), len(objects))
    )
    assert sum(overlaps(truth, prediction, pairs)) == pytest.approx(best)
    assert set(pairs[:, 0]) <= set(objects)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)


@settings(max_examples=100, deadline=None)
@given(label_maps, label_maps, st.floats(0, 1))
def test_poor_pairs_are_dropped_after_matching(truth, prediction, minimum_overlap):
    every = match_objects(truth, prediction, 0, 0.0)
    kept = [iou >= minimum_overlap for iou in overlaps(truth, prediction, every)]
    assert match_objects(truth, prediction, 0, minimum_overlap).tolist() == every[kept].tolist()


def test_objects_are_matched_whatever_the_names_of_slots():
    truth = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 3]], np.uint8)
    slots = np.array([2, 0, 3, 1], np.uint8)
    assert match_objects(truth, slots[truth], 0, 0.5).tolist() == [[1, 0], [2, 3], [3, 1]]
    assert match_objects(truth, slots[truth], 2, 0.5).tolist() == [[1, 0], [2, 3]]


def test_the_background_is_not_matched():
    truth = np.array([[0, 0, 0, 1]], np.uint8)
    assert match_objects(truth, np.zeros_like(truth), 0, 0.0).tolist() == [[1, 0]]
    assert match_objects(np.zeros_like(truth), truth, 0, 0.0).shape == (0, 2)


# ---- scores of an importance matrix ----


def test_one_dimension_for_each_factor_is_the_best_and_all_for_all_the_worst():
    assert disentanglement(np.eye(4)) == completeness(np.eye(4)) == pytest.approx(1)
    assert disentanglement(np.full((6, 4), 0.25)) == pytest.approx(0, abs=1e-9)
    assert completeness(np.full((6, 4), 0.25)) == pytest.approx(0, abs=1e-9)


def test_disentanglement_and_completeness_differ():
    """Two dimensions serve one factor each, halves of it: disentangled, but not complete."""
    importance = np.kron(np.eye(2), np.full((2, 1), 0.5))  # (4, 2)
    assert disentanglement(importance) == pytest.approx(1)
    assert completeness(importance) == pytest.approx(0.5)  # one of two bits


def test_dimensions_and_factors_weigh_by_their_importance():
    importance = np.array([[0.6, 0.1], [0.4, 0.1], [0.0, 0.0]])
    per_dimension = [1 - entropy([6 / 7, 1 / 7], base=2), 1 - entropy([0.8, 0.2], base=2)]
    expected = (0.7 * per_dimension[0] + 0.5 * per_dimension[1]) / 1.2  # a dead dimension has no weight
    assert disentanglement(importance) == pytest.approx(expected)
    per_factor = [1 - entropy([0.6, 0.4], base=3), 1 - entropy([0.5, 0.5], base=3)]
    assert completeness(importance) == pytest.approx((per_factor[0] + 0.2 * per_factor[1]) / 1.2)


def test_no_importance_at_all_scores_nothing():
    assert disentanglement(np.zeros((3, 2))) == completeness(np.zeros((3, 2))) == 0


# ---- scores of codes ----

DISCRETE = {"size", "shape"}


@pytest.fixture(scope="module")
def objects():
    """Codes (400, 4) of four independent factors, one dimension for each."""
    rng = np.random.default_rng(0)
    factors = {"x": rng.uniform(size=400), "y": rng.uniform(size=400)}
    factors |= {"size": rng.integers(1, 3, 400), "shape": rng.integers(1, 4, 400)}
    codes = np.stack([(values - values.mean()) / values.std() for values in factors.values()], axis=1)
    return codes, factors


def test_scores_are_scikit_learns(objects):
    codes, factors = objects
    codes = codes + np.random.default_rng(1).normal(size=codes.shape)
    seeds, trees = [5, 7], 4
    found = disentanglement_scores(codes, factors, DISCRETE, seeds, trees)
    for i, seed in enumerate(seeds):
        importance, exact, correct = [], [], []
        for name, values in factors.items():
            boosting = GradientBoostingClassifier if name in DISCRETE else GradientBoostingRegressor
            halves = train_test_split(np.arange(len(codes)), test_size=0.5, random_state=seed)
            train, test = halves
            model = boosting(n_estimators=trees, random_state=seed).fit(codes[train], values[train])
            importance.append(model.feature_importances_)
            exact.append((model.predict(codes[test]) == values[test]).mean())
            correct.append(model.score(codes[test], values[test]))
        assert found.per_seed["disentanglement"][i] == pytest.approx(disentanglement(np.transpose(importance)))
        assert found.per_seed["completeness"][i] == pytest.approx(completeness(np.transpose(importance)))
        assert found.per_seed["informativeness"][i] == pytest.approx(np.mean(exact))
        assert found.per_seed["informativeness_correct"][i] == pytest.approx(np.mean(correct))


def test_one_dimension_for_each_factor_is_disentangled_and_a_rotation_of_it_is_not(objects):
    codes, factors = objects
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))
    aligned = disentanglement_scores(codes, factors, DISCRETE, [0], 30).per_seed
    rotated = disentanglement_scores(codes @ rotation, factors, DISCRETE, [0], 30).per_seed
    assert min(aligned["disentanglement"], aligned["completeness"]) > [0.95]
    assert aligned["informativeness_correct"] > [0.95]
    assert max(rotated["disentanglement"], rotated["completeness"]) < [0.6]


def test_exact_predictions_know_nothing_of_continuous_factors(objects):
    """The paper's informativeness cannot exceed the share of discrete factors: a half, here and on CLEVR."""
    scores = disentanglement_scores(*objects, DISCRETE, [0], 30)
    assert scores.per_seed["informativeness"] == [pytest.approx(0.5)]
    assert scores.factors["x"]["informativeness"] == 0
    assert scores.factors["x"]["informativeness_correct"] > 0.95


def test_permuted_codes_say_no_more_than_chance(objects):
    codes, factors = objects
    permuted = np.random.default_rng(3).permutation(codes)
    of_factors = disentanglement_scores(permuted, factors, DISCRETE, [0, 1], 10).factors
    chance = {"x": 0, "y": 0, "size": 1 / 2, "shape": 1 / 3}
    for name, expected in chance.items():
        assert of_factors[name]["informativeness_correct"] == pytest.approx(expected, abs=0.08)
        assert of_factors[name]["informativeness_correct"] >= 0


def test_factors_that_do_not_vary_are_known_and_weigh_nothing(objects):
    codes, factors = objects
    constant = {"material": np.full(400, 2), "z": np.full(400, 0.7)}
    scores = disentanglement_scores(codes, factors | constant, DISCRETE | {"material"}, [0], 30)
    assert scores.factors["material"] == {"informativeness": 1, "informativeness_correct": 1}
    assert scores.importance["material"] == scores.importance["z"] == [0, 0, 0, 0]
    assert scores.per_seed["completeness"] > [0.95]


def test_a_single_class_in_the_training_half_is_predicted_for_all():
    codes = np.random.default_rng(0).normal(size=(8, 2))
    _, held_out = train_test_split(np.arange(8), test_size=0.5, random_state=0)
    material = np.ones(8, int)
    material[held_out[0]] = 2
    scores = disentanglement_scores(codes, {"material": material, "x": codes[:, 0]}, {"material"}, [0], 2)
    assert scores.factors["material"]["informativeness"] == 0.75


# ---- factors of data sets ----


def test_the_factors_of_clevr_are_the_papers():
    description = data_set("clevr6")
    features = {feature.name: feature for feature in description.published.layout}
    types = {factor.name: {"type": factor.type} for factor in description.factors}
    values = {name: np.zeros((2, *features[name].shape)) for name in types}
    factors, discrete = scalar_factors(Split(None, None, values, {"factors": types}))
    assert set(factors) == {"x", "y", "z", "rotation", "size", "material", "shape", "color"}
    assert discrete == {"size", "material", "shape", "color"}


def test_components_of_vectors_are_factors(prepared):
    split = load_split(prepared, "test")
    factors, discrete = scalar_factors(split)
    assert list(factors) == ["color_0", "color_1", "color_2", "shape", "x", "y"]
    assert discrete == {"color_0", "color_1", "color_2", "shape"}
    assert (factors["color_1"] == split.factors["color"][..., 1]).all()


# ---- the evaluation ----


class Oracle(Model):
    """A model that knows its images: masks are the label maps, slots the `codes` (N, entities, D), the last one first.

    With `means`, it gives those as posterior means, and noise in place of a sample and its masks.
    """

    def __init__(self, labels, codes, means=False):
        torch.nn.Module.__init__(self)
        self.device_marker = torch.nn.Parameter(torch.zeros(()))
        masks = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 4).permute(0, 3, 1, 2).float()
        self.masks, self.codes = masks.roll(1, dims=1), torch.from_numpy(codes).roll(1, dims=1)
        self.means, self.seen = means, 0

    def decompose(self, images, inference, generator):
        part = slice(self.seen, self.seen + len(images))
        self.seen += len(images)
        reconstructions = images[:, None].expand(-1, 4, -1, -1, -1)
        if not self.means:
            return Decomposition(self.masks[part], reconstructions, self.codes[part], images)
        samples = torch.randn(self.codes[part].shape, generator=generator)
        masks = torch.rand(self.masks[part].shape, generator=generator)
        self.decoded = self.masks[part]
        return Decomposition(masks, reconstructions, samples, images, means=self.codes[part])

    def decode(self, latents):
        return None, self.decoded

    accumulate_gradients = None


Oracle.__abstractmethods__ = frozenset()


def codes_of_factors(split):
    return np.stack(list(scalar_factors(split)[0].values()), axis=-1).astype(np.float32)


def job_of(model, data, out):
    """The first 12 of 16 images, in batches of 8."""
    evaluation = config.load_scale("test").evaluation
    ours = evaluation.disentanglement.model_copy(
        update={"images": 12, "seeds": [0, 1], "trees": 10, "minimum_overlap": 0.3}
    )
    return EvaluationJob(
        build=lambda: model,
        build_untrained=None,
        inference=None,
        settings=evaluation.model_copy(update={"disentanglement": ours}),
        data=data,
        seed=0,
        origin=ORIGIN,
        out=out,
    )


def evaluated(model, data, folder):
    job = job_of(model, data, folder / "disentanglement.json")
    return performed("disentanglement", job)


def test_evaluation_file(prepared, tmp_path):
    split = load_split(prepared, "test")
    result = evaluated(Oracle(split.labels, codes_of_factors(split)), prepared, tmp_path)
    metrics = ["disentanglement", "completeness", "informativeness", "informativeness_correct"]
    assert list(result.summary) == [*metrics, "matched"]
    assert result.summary["matched"] == 1
    assert result.kept["objects"] == sum(len(np.unique(labels)) - 1 for labels in split.labels[:12])
    assert result.kept["factors"]["color_0"] == {"informativeness": 1, "informativeness_correct": 1}
    assert np.argmax(result.kept["importance"]["color_2"]) == 2
    assert {len(values) for values in result.kept["importance"].values()} == {6}
    assert {metric: len(values) for metric, values in result.kept["per_seed"].items()} == dict.fromkeys(metrics, 2)
    floor = result.controls["permuted_codes"]
    assert floor["informativeness_correct"] < result.summary["informativeness_correct"] - 0.2
    assert result.kept["split_seeds"] == [0, 1]
    assert result.origin == ORIGIN


def test_evaluation_repeats(prepared, tmp_path):
    split = load_split(prepared, "test")
    for folder in (tmp_path / "a", tmp_path / "b"):
        evaluated(Oracle(split.labels, codes_of_factors(split)), prepared, folder)
    first, second = (tmp_path / folder / "disentanglement.json" for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_posterior_means_and_their_masks_are_preferred(prepared, tmp_path):
    split = load_split(prepared, "test")
    known = evaluated(Oracle(split.labels, codes_of_factors(split)), prepared, tmp_path)
    assert evaluated(Oracle(split.labels, codes_of_factors(split), means=True), prepared, tmp_path) == known


def test_a_model_that_finds_no_object_has_no_scores(prepared, tmp_path):
    split = load_split(prepared, "test")
    collapsed = Oracle(np.zeros_like(split.labels), codes_of_factors(split))
    assert evaluated(collapsed, prepared, tmp_path).summary == {"matched": 0}


def test_data_without_factors_are_refused(prepared, tmp_path):
    data = tmp_path / "prepared.h5"
    data.write_bytes(prepared.read_bytes())
    with h5py.File(data, "r+") as file:
        del file["test/factors"]
    with pytest.raises(UserError, match="has no factors of the objects"):
        evaluate(job_of(None, data, tmp_path / "out.json"))

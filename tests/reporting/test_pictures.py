"""Pictures show the arrays they are given, labelled."""

import numpy as np
import pytest

from emorl.reporting.figures.layers import layers
from emorl.reporting.figures.traversals import activeness, leak, traversals

n, K, L, S, D, V, SIZE = 2, 3, 2, 2, 5, 3, 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def layer_arrays(rng) -> dict[str, np.ndarray]:
    masks, attention = rng.random((n, L + 1, K, SIZE, SIZE)), rng.random((n, L, K, SIZE, SIZE))
    return {
        "images": rng.random((n, 3, SIZE, SIZE)),
        "reconstruction": rng.random((n, L + 1, 3, SIZE, SIZE)),
        "masks": masks / masks.sum(2, keepdims=True),
        "attention": attention / attention.sum(2, keepdims=True),
    }


def traversal_arrays(rng, dimensions=(4, 0)) -> dict[str, np.ndarray]:
    def picture(*shape):
        return rng.integers(0, 256, (n, *shape, SIZE, SIZE), dtype=np.uint8)

    return {
        "images": picture(3),
        "reconstruction": picture(3),
        "objects": picture(S) > 127,
        "slots": np.array([[0, 2]] * n),
        "scenes": picture(S, len(dimensions), V, 3),
        "dimensions": np.array([dimensions]),
        "activeness": np.array([[0.5, 0.001, 0, 0, 1]]),
        "threshold": np.array([0.01]),
    }


def images_of(figure) -> list[np.ndarray]:
    axes = [axis for axis in figure.findobj(lambda artist: hasattr(artist, "get_images"))]
    return [np.asarray(image.get_array()) for axis in axes for image in axis.get_images()]


def texts_of(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def shows(figure, picture: np.ndarray) -> bool:
    wanted = picture.transpose(1, 2, 0)
    return any(image.shape == wanted.shape and np.allclose(image, wanted) for image in images_of(figure))


def test_layers_are_rows_and_the_refined_one_is_last(rng):
    arrays = layer_arrays(rng)
    figure = layers([("A title", arrays)], "a note")
    assert all(shows(figure, picture) for picture in arrays["reconstruction"].reshape(-1, 3, SIZE, SIZE))
    assert len(images_of(figure)) == n * (1 + 2 * (L + 1) + L * (1 + K))
    texts = texts_of(figure)
    assert all(word in texts for word in ("A title", "a note", "layer 1", "layer 2", "refined", "attention 3"))


@pytest.mark.slow
def test_traversals_show_every_scene_with_its_dimension(rng):
    arrays = traversal_arrays(rng)
    figure = traversals([("A title", arrays)], "a note")
    assert all(shows(figure, scene) for scene in arrays["scenes"].reshape(-1, 3, SIZE, SIZE))
    texts = texts_of(figure)
    assert all(word in texts for word in ("A title", "a note", "slot 3\ndim 0, 0.50", "least", "largest"))


@pytest.mark.slow
def test_activeness_is_shown_relative_to_the_largest(rng):
    arrays = traversal_arrays(rng)
    figure = activeness([("First", arrays), ("Second", arrays)], "a note")
    heat_maps = [image for image in images_of(figure) if image.shape == (3, 3)]
    assert len(heat_maps) == 2
    np.testing.assert_allclose(heat_maps[0].ravel()[:5], [0.5, 1e-3, 1e-4, 1e-4, 1])
    assert "2 of 5 active" in texts_of(figure)


def test_leak_shows_where_pixels_change(rng):
    arrays = traversal_arrays(rng, dimensions=(4,)) | {"changed": rng.random((n, S, SIZE, SIZE)) < 0.5}
    figure = leak([("A title", arrays)], "a note")
    maps = [image for image in images_of(figure) if image.shape == (SIZE, SIZE)]
    np.testing.assert_array_equal([image == 0 for image in maps], arrays["changed"].reshape(-1, SIZE, SIZE))
    assert "slot 3\ndim 4" in texts_of(figure)


@pytest.mark.parametrize("draw", [layers, traversals, activeness, leak])
def test_without_a_finished_run_there_is_a_figure_all_the_same(draw):
    assert "a note" in " ".join(texts_of(draw([], "a note")).split())  # wherever its lines are broken

"""The ray tracer of CLEVR's replica: where rays meet shapes, what shows where, and the same bits in any company."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emorl.data.clevr_renderer import METAL, RUBBER, Solid, Window, World, entities, render
from emorl.data.clevr_scenes import CAMERA, LAMPS, draw_worlds
from emorl.data.clevr_shapes import CUBE, CYLINDER, SPHERE, enter, from_core

RED, BLUE, GRAY, YELLOW = 1, 4, 6, 8
MISSED = 100
BEVELS = {CYLINDER: 0.066, CUBE: 0.197}


def signed_distance(shape, points):
    """Distance (...) of points (..., 3) to a shape of half side 1, negative inside: written apart from the renderer."""
    if shape == SPHERE:
        return np.linalg.norm(points, axis=-1) - 1
    if shape == CYLINDER:
        points = np.stack([np.hypot(points[..., 0], points[..., 1]), points[..., 2]], axis=-1)
    beyond = np.abs(points) - (1 - BEVELS[shape])
    inside = np.minimum(beyond.max(axis=-1), 0)
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + inside - BEVELS[shape]


def random_rays(count):
    """Origins and unit directions (count, 3) of rays from all around towards, and past, a shape of half side 1."""
    generator = np.random.default_rng(0)
    origins = generator.normal(size=(count, 3))
    origins *= 4 / np.linalg.norm(origins, axis=-1, keepdims=True)
    directions = generator.uniform(-1.3, 1.3, (count, 3)) - origins
    return origins, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def columns(vectors):
    return torch.from_numpy(vectors.T.astype(np.float32))


@pytest.mark.parametrize("shape", [SPHERE, CYLINDER, CUBE])
def test_rays_enter_shapes_where_a_dense_search_finds_the_surface(shape):
    origins, directions = random_rays(1000)
    steps = np.arange(1, 7, 0.005)
    distances = signed_distance(shape, origins[:, None] + steps[:, None] * directions[:, None])
    lowest, first_inside = distances.min(axis=1), steps[(distances < 0).argmax(axis=1)]
    entered = enter(shape, columns(origins), columns(directions)).numpy()
    assert (entered[lowest > 0.002] == MISSED).all()
    through = lowest < -0.002
    np.testing.assert_allclose(entered[through], first_inside[through] - 0.0025, atol=0.005)
    assert 300 < through.sum() < 900
    met = entered < MISSED
    surface = signed_distance(shape, origins[met] + entered[met, None] * directions[met])
    np.testing.assert_allclose(surface, 0, atol=2e-3)


@pytest.mark.parametrize("shape", [CYLINDER, CUBE])
def test_rays_that_start_beside_a_bevelled_edge(shape):
    origin = torch.tensor([[0.99, 0.0, 0.99]]).T if shape == CYLINDER else torch.tensor([[0.95, 0.95, 0.95]]).T
    inward = enter(shape, origin, -origin)
    assert 0 < inward < 0.2
    assert enter(shape, origin, origin) == MISSED


@pytest.mark.parametrize("shape", [SPHERE, CYLINDER, CUBE])
def test_normals_are_gradients_of_the_distance(shape):
    origins, directions = random_rays(300)
    distance = enter(shape, columns(origins), columns(directions)).numpy()
    points = (origins + distance[:, None] * directions)[distance < MISSED]
    nudges = 1e-4 * np.eye(3)
    gradients = signed_distance(shape, points[:, None] + nudges) - signed_distance(shape, points[:, None] - nudges)
    normals = from_core(shape, columns(points)).numpy().T
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    np.testing.assert_allclose(gradients / 2e-4, normals, atol=0.01)


def worlds_of_many_kinds(count):
    """Worlds with different numbers of objects, and seeds for their noise."""
    generators = [np.random.default_rng(seed) for seed in range(count)]
    return draw_worlds(generators, 3, 10)[0]


def rendered(worlds, seeds, window):
    return torch.from_numpy(render(worlds, [np.random.default_rng(seed) for seed in seeds], window))


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 21])
def test_an_image_does_not_depend_on_its_company_or_on_threads(size):
    worlds, window, seeds = worlds_of_many_kinds(7), Window.crop(size), range(7)
    together = rendered(worlds, seeds, window)
    for i, world in enumerate(worlds):
        assert torch.equal(rendered([world], [i], window)[0], together[i])
    assert torch.equal(rendered(worlds[::-1], seeds[::-1], window).flip(0), together)
    threads = torch.get_num_threads()
    try:
        for other in (1, 2, 3):
            torch.set_num_threads(other)
            assert torch.equal(rendered(worlds, seeds, window), together)
    finally:
        torch.set_num_threads(threads)


def test_labels_do_not_depend_on_company():
    worlds = worlds_of_many_kinds(4)
    together = entities(worlds)
    for i, world in enumerate(worlds):
        assert np.array_equal(entities([world])[0], together[i])


def test_noise_comes_from_the_generator_alone():
    (world,) = worlds_of_many_kinds(1)
    first, again, other = (rendered([world], [seed], Window.crop(24)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.float() - other.float()).abs().mean() < 8


@pytest.fixture(scope="module")
def row_of_solids():
    shapes = enumerate((SPHERE, CYLINDER, CUBE))
    solids = [Solid(0.8 * i - 0.8, 1.6 * i - 1.6, 0.7, 0.4, shape, RUBBER, GRAY) for i, shape in shapes]
    return World(CAMERA, LAMPS, solids)


def test_labels_are_where_an_object_shows(row_of_solids):
    """Only the pixels of an object take its colour; a sixth of it is edge, or takes part of a neighbour's glow."""
    labels = entities([row_of_solids])[0]
    for k, solid in enumerate(row_of_solids.solids):
        solids = list(row_of_solids.solids)
        images = []
        for color in (YELLOW, BLUE):
            solids[k] = solid._replace(color=color)
            images.append(rendered([replace(row_of_solids, solids=solids)], [0], Window.whole())[0].numpy())
        differs = (np.abs(images[0].astype(int) - images[1]) > 25).any(axis=-1)
        assert (differs & (labels == k + 1)).sum() > 0.98 * (labels == k + 1).sum()
        assert (differs & (labels == k + 1)).sum() > 0.95 * differs.sum()


def test_the_nearer_object_is_the_one_that_shows():
    far, near = (Solid(place * 0.2, -place * 0.2, 0.7, 0, SPHERE, RUBBER, RED) for place in (-3, 3))
    labels = entities([World(CAMERA, LAMPS, [far, near]), World(CAMERA, LAMPS, [near, far])])
    seen = labels[0] > 0
    assert np.array_equal(labels[0][seen], 3 - labels[1][seen])
    assert (labels[0] == 2).sum() > 1.3 * (labels[0] == 1).sum() > 0


def test_the_crop_is_that_part_of_the_whole_image(row_of_solids):
    crop = rendered([row_of_solids], [0], Window.crop(192))[0].float()
    whole = rendered([row_of_solids], [1], Window.whole())[0].float()
    assert (crop - whole[29:221, 64:256]).abs().mean() < 2
    half = rendered([row_of_solids], [2], Window.crop(96))[0].float()
    averaged = crop.reshape(96, 2, 96, 2, 3).mean(dim=(1, 3))
    assert (half - averaged).abs().mean() < 2.5


def test_objects_shade_the_floor_and_metal_mirrors(row_of_solids):
    window, floor = Window.whole(), entities([row_of_solids])[0] == 0
    sphere = row_of_solids.solids[0]
    full, without, metal, mirror = (
        rendered([replace(row_of_solids, solids=solids)], [0], window)[0].float().mean(dim=-1).numpy()
        for solids in (
            row_of_solids.solids,
            row_of_solids.solids[1:],
            [sphere._replace(material=METAL), *row_of_solids.solids[1:]],
            [sphere._replace(material=METAL)],
        )
    )
    assert (without - full)[floor].max() > 30  # its shadows
    assert (without - full)[floor].mean() > 0
    on_sphere = entities([row_of_solids])[0] == 1
    assert np.abs(metal - mirror)[on_sphere].max() > 30  # the neighbours show in it

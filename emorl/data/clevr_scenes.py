"""Scenes by the rules of CLEVR's generator (facebookresearch/clevr-dataset-gen, image_generation/render_images.py).

Each object is placed by trial; when one finds no place in 50 trials, or one shows in fewer than 200 pixels of the
320 x 240 image, all are drawn again, as many as before, under the same camera and lamps.
"""

from collections.abc import Sequence
from math import hypot

import numpy as np

from emorl.data.clevr_renderer import METAL, PALETTE, Solid, World, entities
from emorl.data.clevr_shapes import CUBE

# Places of camera and lamps (key, fill, back) in the generator's base_scene.blend, and how far they are moved at most
# along each axis.
CAMERA = np.array([7.4811, -6.5076, 5.3437])
CAMERA_JITTER = 0.5
LAMPS = np.array([[6.4467, -2.9052, 4.2584], [-4.6711, -4.0136, 3.0112], [-1.1685, 2.646, 5.8157]])
LAMP_JITTER = 1.0

RADII = (0.7, 0.35)
"""Radii, or half sides, of large and small objects. Cubes too: the generator means to shrink them by the root of 2,
but asks for the name 'Cube', and theirs is 'SmoothCube_v2'."""
FIELD = 3.0
"""Objects stand at x and y between -3 and 3."""
GAP = 0.25
"""Distance there is at least between the circles in which two objects stand."""
MARGIN = 0.4
"""Distance there is at least between the middles of two objects from left to right, and from front to behind."""
TRIALS = 50
VISIBLE = 200
"""Pixels of the published image in which each object shows at least (README: 100; the code: 200)."""

# Rows: behind and left, as the camera sees them, along the floor. They are those of the camera before it is moved:
# Blender updates its matrix too late, and all published scenes have the same (-0.7545, 0.6563) for "behind".
_BEHIND = (-CAMERA[:2] / np.linalg.norm(CAMERA[:2])).tolist()
DIRECTIONS = ((_BEHIND[0], _BEHIND[1]), (-_BEHIND[1], _BEHIND[0]))


def draw_worlds(generators: Sequence[np.random.Generator], fewest: int, most: int) -> tuple[list[World], np.ndarray]:
    """A scene from each generator, and its labels (N, 240, 320) as `entities` has them.

    The number of objects is uniform from `fewest` to `most`. As it is drawn once and kept when objects are drawn
    again, scenes of 3-6 objects have the law of those among scenes of 3-10 that have at most 6.
    """
    counts = [int(generator.integers(fewest, most + 1)) for generator in generators]
    cameras = [CAMERA + generator.uniform(-CAMERA_JITTER, CAMERA_JITTER, 3) for generator in generators]
    lamps = [LAMPS + generator.uniform(-LAMP_JITTER, LAMP_JITTER, (3, 3)) for generator in generators]
    worlds: dict[int, World] = {}
    labels: dict[int, np.ndarray] = {}
    while hidden := [i for i in range(len(generators)) if i not in labels]:
        for i in hidden:
            worlds[i] = World(cameras[i], lamps[i], draw_solids(counts[i], generators[i]))
        seen = entities([worlds[i] for i in hidden])
        labels |= {i: seen[j] for j, i in enumerate(hidden) if all_show(seen[j], counts[i])}
    order = range(len(generators))
    return [worlds[i] for i in order], np.stack([labels[i] for i in order])


def all_show(labels: np.ndarray, count: int) -> bool:
    """Whether each of `count` objects has enough pixels of a label map."""
    return bool((np.bincount(labels.ravel(), minlength=count + 1)[1:] >= VISIBLE).all())


def draw_solids(count: int, generator: np.random.Generator) -> list[Solid]:
    """Objects that leave each other room."""
    while (solids := _try_to_place(count, generator)) is None:
        pass
    return solids


def _try_to_place(count: int, generator: np.random.Generator) -> list[Solid] | None:
    """Objects, one after another, or None when one of them finds no place."""
    solids: list[Solid] = []
    for _ in range(count):
        radius = RADII[generator.integers(2)]
        trials = (generator.uniform(-FIELD, FIELD, 2).tolist() for _ in range(TRIALS))
        place = next(((x, y) for x, y in trials if _has_room(x, y, radius, solids)), None)
        if place is None:
            return None
        x, y = place
        rotation = generator.uniform(0, 360)
        shape, material, color = generator.integers(1, (CUBE + 1, METAL + 1, len(PALETTE)))
        solids.append(Solid(x, y, radius, rotation, shape, material, color))
    return solids


def _has_room(x: float, y: float, radius: float, solids: Sequence[Solid]) -> bool:
    """Whether an object at x and y is far enough from all others."""
    for solid in solids:
        dx, dy = x - solid.x, y - solid.y
        if hypot(dx, dy) - radius - solid.radius < GAP:
            return False
        if any(abs(dx * along_x + dy * along_y) < MARGIN for along_x, along_y in DIRECTIONS):
            return False
    return True

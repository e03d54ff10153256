"""Multi-dSprites (Multi-Object Datasets, DeepMind 2019): two to five coloured sprites on grey, and a replica of them.

The replica draws the three shapes of dSprites (DeepMind 2017) as its frames show them, but for some pixels at their
edges. The law by which the scenes were drawn is not published: `draw_scenes` says what the replica takes it to be.
"""

from collections.abc import Callable, Iterator

import numpy as np

from emorl.data.description import DataSet, Factor, Processed, Published, Replica, Scene, label_map
from emorl.data.tfrecords import Feature, Layout, Record

SIZE = 64
"""Height and width of an image in pixels."""
SPRITES = 5
"""The most sprites in an image; the fewest are two. With the background, which comes first, there are six entities."""

# dSprites' factors.
POSITIONS = 32
"""Places of a sprite's centre along an axis, from pixel 15.5 to pixel 47.5: the middle half of the image."""
ORIENTATIONS = 39
"""Different orientations. dSprites lists 40, of which the last is the first again, a full turn later."""
SCALES = np.linspace(0.5, 1, 6)
SYMMETRY = np.array([1, 4, 2, 1])
"""In how many orientations each shape looks the same, by shape id."""

LEAST_VISIBLE = 25
"""Pixels that each sprite of a replica shows at the least."""


def layout_of(sprites: int, channels: int = 3) -> Layout:
    """The features of a scene with at most so many sprites: the three published files differ in that alone."""
    return (
        Feature("image", "uint8", (SIZE, SIZE, channels)),
        Feature("mask", "uint8", (SIZE, SIZE, sprites + 1, 1)),
        Feature("x", "float32", (sprites + 1,)),
        Feature("y", "float32", (sprites + 1,)),
        Feature("shape", "float32", (sprites + 1,)),
        Feature("color", "float32", (sprites + 1, channels)),
        Feature("visibility", "float32", (sprites + 1,)),
        Feature("orientation", "float32", (sprites + 1,)),
        Feature("scale", "float32", (sprites + 1,)),
    )


LAYOUT = layout_of(SPRITES)

# x is the column, y the row of a sprite's centre, 0 to 1 from the first place to the last; orientation is in radians,
# counter-clockwise, less than the angle at which the shape repeats; color is RGB from 0 to 1. Absent sprites have
# factors too: only visibility tells them. The background is of scale 1, and 0 in what else it cannot have.
#
# A user's counts (zhenlinx, 2021) of all values in "colored on colored", a sister file by the same authors, agree: 32
# places; the 77 orientations that 39 turns make of these symmetries; scales .5 to 1 and no 0; a shape of 0 exactly
# once a scene, though scenes have one to four sprites. Guessed: which axis is x, dSprites' order of the shapes, the
# sense and origin of orientation, the range of color, and the background's entries but its shape.
FACTORS = (
    Factor("x", "continuous"),
    Factor("y", "continuous"),
    Factor("shape", "discrete", {0: "background", 1: "square", 2: "ellipse", 3: "heart"}),
    Factor("color", "continuous"),
    Factor("visibility", "discrete", {0: "absent", 1: "present"}),
    Factor("orientation", "continuous"),
    Factor("scale", "continuous"),
)

SHARD = 1000
"""Replica scenes drawn from one seed sequence."""


def scene(record: Record) -> Scene:
    """Image (64, 64, channels) and labels (64, 64) of a record with masks (64, 64, entities, 1), as published."""
    return Scene(record["image"], label_map(record["mask"][..., 0].transpose(2, 0, 1)))


def processed_scene(record: Record) -> Scene:
    """Image (64, 64, 3) and labels (64, 64) of a record with masks (6, 64, 64, 1)."""
    return Scene(record["image"], label_map(record["mask"][..., 0]))


# ---- shapes: whether the point u pixels right of and v below its centre is in an upright sprite of scale 1 ----
# The lengths are fitted to frames of dSprites. Mean intersection over union with them: squares .985, ellipses .983,
# hearts .967.

SQUARE_HALF_SIDE = 9.7
ELLIPSE_HALF_AXES = 13.0, 7.2
LOBE_CENTRE, LOBE_RADIUS, HEART_TIP = (4.653, -4.022), 5.149, 8.777
"""The right one of a heart's two round lobes, and how far below its centre it ends."""

_WINDOW = np.arange(-13, 15)
"""Rows or columns that a sprite can reach, from the one in which its centre lies (a square's corner is 13.7 away)."""


def in_square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= SQUARE_HALF_SIDE


def in_ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    width, height = ELLIPSE_HALF_AXES
    return (u / width) ** 2 + (v / height) ** 2 <= 1


def in_heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """In a lobe, or in the cone that leads from the tip to where it touches the lobe; and their mirror images."""
    axis_u, axis_v = LOBE_CENTRE[0], LOBE_CENTRE[1] - HEART_TIP  # from the tip to the lobe's centre
    length = (axis_u**2 + axis_v**2) ** 0.5
    touching = (length**2 - LOBE_RADIUS**2) ** 0.5  # how far from the tip the cone touches the lobe
    u, v = np.abs(u), v - HEART_TIP
    along, across = (u * axis_u + v * axis_v) / length, np.abs(u * axis_v - v * axis_u) / length
    lobe = (along - length) ** 2 + across**2 <= LOBE_RADIUS**2
    cone = (across <= along * (LOBE_RADIUS / touching)) & (along <= touching**2 / length)
    return lobe | cone


def draw_labels(factors: Record) -> np.ndarray:
    """Labels (N, 64, 64) uint8 of factors with a leading axis of N scenes; a later sprite hides earlier ones."""
    labels = np.zeros((len(factors["shape"]), SIZE, SIZE), np.uint8)
    for sprite in range(1, factors["shape"].shape[1]):
        for shape, contains in enumerate((in_square, in_ellipse, in_heart), start=1):
            present = (factors["shape"][:, sprite] == shape) & (factors["visibility"][:, sprite] == 1)
            scenes = np.flatnonzero(present)
            x, y, angle, scale = (factors[name][scenes, sprite] for name in ("x", "y", "orientation", "scale"))
            columns, right = _pixels(x)
            rows, down = _pixels(y)
            cos, sin = _cos_sin(angle)
            cos, sin = cos / scale, sin / scale
            u = (cos[:, None] * right)[:, None, :] - (sin[:, None] * down)[:, :, None]  # (n, rows, columns)
            v = (sin[:, None] * right)[:, None, :] + (cos[:, None] * down)[:, :, None]
            which, row, column = np.nonzero(contains(u, v))
            labels[scenes[which], rows[which, row], columns[which, column]] = sprite
    return labels


def _cos_sin(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounded from double precision: the last bits of single precision differ between processors."""
    double = angle.astype(np.float64)
    return np.cos(double).astype(np.float32), np.sin(double).astype(np.float32)


def _pixels(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows or columns (n, 28) around each centre `place` (n,), and how many pixels they are past it."""
    centre = (SIZE / 2 * place + (SIZE / 4 - 0.5))[:, None]
    pixels = np.floor(centre).astype(int) + _WINDOW
    return pixels, pixels.astype(np.float32) - centre


# ---- scenes ----


Colours = Callable[[np.random.Generator, int, int], np.ndarray]
"""colours(generator, count, sprites): of backgrounds and sprites (count, sprites + 1, channels), 0 to 1."""


def hsv_on_grey(generator: np.random.Generator, count: int, sprites: int) -> np.ndarray:
    color = _rgb(generator.random((count, sprites)), *generator.uniform(0.5, 1, (2, count, sprites)))
    grey = generator.random((count, 1, 1)).repeat(3, axis=-1)
    return np.concatenate([grey, color], axis=1)


def draw_scenes(
    count: int, generator: np.random.Generator, fewest: int = 2, most: int = SPRITES, colours: Colours = hsv_on_grey
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Factors of `count` scenes, with a leading axis, and their labels (count, 64, 64).

    The number of sprites and every factor are uniform and independent; number and shape are so in the sister file's
    counts. Centres are drawn again until each sprite shows enough pixels, which leaves the other factors' laws alone.
    Said by the publisher: two to five sprites with some occlusions, colours random in HSV, background of random grey.
    Guessed: the ranges of hue (all), saturation and value (.5 to 1) and grey (all), that hidden sprites were avoided,
    and that later sprites hide earlier ones.
    """
    sprites = count, most
    present = np.arange(most) < generator.integers(fewest, most + 1, (count, 1))
    shape = generator.integers(1, len(SYMMETRY), sprites)
    turn = generator.integers(ORIENTATIONS + 1, size=sprites) % ORIENTATIONS  # dSprites' 40, one of them twice
    orientation = turn * (2 * np.pi / ORIENTATIONS) / SYMMETRY[shape]
    color = colours(generator, count, most)
    factors = {
        "x": np.zeros((count, most + 1)),
        "y": np.zeros((count, most + 1)),
        "shape": np.insert(shape, 0, 0, axis=1),
        "color": np.rint(255 * color) / 255,  # what an image can show
        "visibility": np.insert(present, 0, True, axis=1),
        "orientation": np.insert(orientation, 0, 0, axis=1),
        "scale": np.insert(generator.choice(SCALES, sprites), 0, 1, axis=1),
    }
    factors = {name: values.astype(np.float32) for name, values in factors.items()}
    return factors, _place(factors, generator)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """RGB (..., 3) of colours whose hue, saturation and value (...) are all from 0 to 1."""
    sector = (6 * hue[..., None] + np.array([5, 3, 1])) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(sector, 4 - sector), 0, 1))


def _place(factors: dict[str, np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Draw x and y of all sprites, in place, so that those present can be seen; returns the labels."""
    count, entities = factors["x"].shape
    labels = np.empty((count, SIZE, SIZE), np.uint8)
    hidden = np.arange(len(labels))  # scenes in which a sprite shows too little, or that are still to be drawn
    while len(hidden):
        for name in ("x", "y"):
            factors[name][hidden, 1:] = generator.integers(POSITIONS, size=(len(hidden), entities - 1)) / (
                POSITIONS - 1
            )
        again = {name: values[hidden] for name, values in factors.items()}
        labels[hidden] = draw_labels(again)
        shown = np.stack([(labels[hidden] == sprite).sum(axis=(1, 2)) for sprite in range(1, entities)], axis=1)
        hidden = hidden[((shown < LEAST_VISIBLE) & (again["visibility"][:, 1:] == 1)).any(axis=1)]
    return labels


def paint(tones: np.ndarray, palettes: np.ndarray) -> np.ndarray:
    """Images (N, 64, 64, channels) uint8: each pixel in that colour of its image's palette (N, colours, channels), 0 to
    1, which `tones` (N, 64, 64) names."""
    palettes = np.rint(255 * palettes).astype(np.uint8)
    return np.stack([palette.take(tone, axis=0) for palette, tone in zip(palettes, tones, strict=True)])


def records(images: np.ndarray, labels: np.ndarray, factors: Record) -> Iterator[Record]:
    """Records of scenes: images (N, 64, 64, channels), labels (N, 64, 64), and factors with a leading axis of N."""
    entities = np.arange(factors["x"].shape[1], dtype=np.uint8)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        mask = (label[..., None] == entities) * np.uint8(255)
        yield {"image": image, "mask": mask[..., None], **{name: values[number] for name, values in factors.items()}}


def draw_shard(seed: int, index: int, image_size: int) -> Iterator[Record]:
    """The records of one shard of the replica with this seed, at the published size whatever `image_size` is."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    factors, labels = draw_scenes(SHARD, generator)
    return records(paint(labels, factors["color"]), labels, factors)


DATA_SET = DataSet(
    name="multi_dsprites",
    title="Multi-dSprites",
    factors=FACTORS,
    published=Published(
        url="https://storage.googleapis.com/multi-object-datasets/multi_dsprites/"
        "multi_dsprites_colored_on_grayscale.tfrecords",
        records=1_000_000,
        layout=LAYOUT,
        scene=scene,
    ),
    processed=Processed(
        train="multi_dsprites_colored_on_grayscale.h5",
        test="multi_dsprites_colored_on_grayscale_test.h5",
        scene=processed_scene,
    ),
    replica=Replica(layout=lambda image_size: LAYOUT, scene=scene, shard_size=SHARD, shard=draw_shard),
)

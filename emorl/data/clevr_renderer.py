"""A ray tracer for CLEVR's scenes: spheres, cylinders and bevelled cubes of rubber or metal on a grey floor.

It stands in for Blender, with which CLEVR was rendered (facebookresearch/clevr-dataset-gen, "the generator" below).
Geometry, camera, lamps and colours are the generator's; materials are simpler, with constants fitted to published
images. Each sample of a pixel is one path: seen point, shadow rays to a point of each lamp, one mirror bounce.

Points and directions are (3, R) tensors, one column per ray, and `image` (R,) says to which image a ray belongs.
Lengths are in the generator's units (the floor is about 10 across), light in linear RGB.

The same scene and noise give the same bits, whatever else is rendered beside it and with however many threads: each
image has its own noise, and rays meet only + - * / sqrt, comparisons and look-ups, which IEEE 754 rounds in one way
for any position in a tensor (vectorised sin, exp or pow may not: the last elements of a tensor take other code), and
sums in a written order, in place of reductions. Division by a Python number is left out too: CUDA multiplies by the
reciprocal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, atan2, cos, floor, hypot, pi, sin, tan
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emorl.data.clevr_shapes import BEVEL, NOTHING, REACH, dot, enter, from_core, take

# The codes of published records; 0 is the background's.
RUBBER, METAL = 1, 2

WIDTH, HEIGHT = 320, 240
"""Size in pixels of the published images."""
FOCAL_LENGTH = 350.0
"""In pixels: a 35 mm lens before a 32 mm sensor, 320 pixels wide (the generator's base_scene.blend)."""
CROP_LEFT, CROP_TOP, CROP_SIZE = 64, 29, 192
"""The square of a published image that models see, in pixels (rows 29:221, columns 64:256)."""
SAMPLES = 4
"""Paths per pixel: one in each of 2 x 2 squares of it."""

# The generator's properties.json, red cyan green blue brown gray purple yellow: given to Blender as linear RGB, 0-255.
# Entry 0 is no colour.
PALETTE = np.array(
    [
        [0, 0, 0],
        [173, 35, 35],
        [41, 208, 208],
        [29, 105, 20],
        [42, 75, 215],
        [129, 74, 25],
        [87, 87, 87],
        [129, 38, 192],
        [255, 238, 51],
    ]
)

# Lamps: key, fill, back. Colours and sides of the squares are base_scene.blend's.
_LAMP_COLORS = ((1.0, 0.9323, 0.8167), (0.7617, 0.8177, 1.0), (1.0, 1.0, 1.0))
_LAMP_SIDES = (0.5, 0.5, 1.0)
# Fitted to the floors of ten published images; the file's own are 78.5, 23.6, 39.3 W as bpy 5 reads them.
_LAMP_POWERS = (58.9, 18.24, 31.24)
_SUN_DIRECTION = (0.4145, -0.1946, 0.889)  # base_scene.blend; the only lamp that the generator does not move
_SUN = 0.492  # fitted with the lamps' powers; the file's own is 0.45

# What a path of one bounce leaves out, fitted to the floors of the same images: light from everywhere, and light that
# the floor throws on what faces it.
_AMBIENT, _FLOOR_BOUNCE = 0.0555, 0.1
_FLOOR_ALBEDO = 0.8  # base_scene.blend: Blender's default grey

# Materials, fitted to published record 0. Gloss lobes are GGX distributions (roughness, weight); a metal's mirror is
# blurred by tilting its normal, either little or much.
_METAL_GLOSS, _METAL_LOBES = 0.8, ((0.05, 0.45), (0.3, 0.55))
_RUBBER_GLOSS, _RUBBER_ROUGHNESS = 0.01, 0.45
_SHARP_TILT, _BLURRED_TILT, _SHARP_SHARE = 0.015, 0.125, 0.6
_FRESNEL_FACING, _FRESNEL_GRAZING = 0.02, 0.25  # rubber's mirror, seen along the normal and across it
_METAL_IN_MIRROR = 0.4  # a metal's brightness as rubber, when seen in a mirror: it has no second bounce

# The floor curves up to a backdrop behind the scene, and the rest of the world is black. Guessed and fitted to record
# 0 as it shows in mirrors: a glow that grows away from the camera and falls towards the zenith.
_BACKDROP, _BACKDROP_OFFSET, _WORLD = 0.12, 0.15, 0.008
_FLOOR_FADE = 1 / 22  # per unit of distance: how soon the mirrored floor gives way to the backdrop

_LIFT = 1e-3
"""How far above a surface new rays start, so that they do not meet it."""

# sRGB (IEC 61966-2-1) of 2^16 linear levels as 8 bits. A table, as a power would differ between processors.
_LEVELS = np.arange(2**16) / (2**16 - 1)
_SRGB = np.where(_LEVELS <= 0.0031308, 12.92 * _LEVELS, 1.055 * _LEVELS ** (1 / 2.4) - 0.055)
_SRGB_BYTES = torch.from_numpy(np.rint(255 * _SRGB).astype(np.uint8))


class Solid(NamedTuple):
    """An object, which stands on the floor."""

    x: float
    y: float
    radius: float
    """Radius, or half the side: also the height of the middle."""
    rotation: float
    """Angle about the vertical in radians. The generator draws degrees, 0-360, and uses the number as radians."""
    shape: int
    """A code, as the next two."""
    material: int
    color: int

    @property
    def center(self) -> tuple[float, float, float]:
        return self.x, self.y, self.radius


@dataclass(frozen=True)
class World:
    """A scene in the generator's coordinates: z is up, the floor is z = 0, camera and lamps look at the origin."""

    camera: np.ndarray
    """(3,) position."""
    lamps: np.ndarray
    """(3, 3) positions of key, fill and back lamp."""
    solids: Sequence[Solid]

    @property
    def camera_axes(self) -> np.ndarray:
        """(3, 3) rows: right, up and forward, unit vectors."""
        right, up, backward = _axes(self.camera)
        return np.stack([right, up, -backward])


def _axes(position: np.ndarray) -> np.ndarray:
    """(3, 3) rows: right, up and backward of what stands at `position` and looks at the origin."""
    x, y, z = (position / np.linalg.norm(position)).tolist()
    level = hypot(x, y)
    return np.array([[-y / level, x / level, 0], [-x * z / level, -y * z / level, level], [x, y, z]])


# ---- what callers use ----


class Window(NamedTuple):
    """A part of the published image, in its pixels, and into how many pixels it is rendered."""

    left: int
    top: int
    width: int
    height: int
    columns: int
    rows: int

    @classmethod
    def whole(cls) -> "Window":
        """The published image."""
        return cls(0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)

    @classmethod
    def crop(cls, size: int) -> "Window":
        """What models see of it."""
        return cls(CROP_LEFT, CROP_TOP, CROP_SIZE, CROP_SIZE, size, size)

    @property
    def pixels(self) -> int:
        return self.columns * self.rows

    def published(self, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Places in the published image of places in this one."""
        return self.left + column * (self.width / self.columns), self.top + row * (self.height / self.rows)


def entities(worlds: Sequence[World]) -> np.ndarray:
    """(N, 240, 320) uint8: what the middle of each published pixel shows, 0 = floor, k = the k-th object."""
    batch, window = _Batch.of(worlds), Window.whole()
    pixel, item = _in_view(worlds, window)
    image = item % len(worlds)
    direction = _view(batch, image, pixel % WIDTH + 0.5, pixel // WIDTH % HEIGHT + 0.5)
    unmet = torch.full((len(worlds) * window.pixels,), NOTHING)
    _, seen, item = _first(batch, unmet, pixel, item, _per_ray(batch.camera, image), direction)
    labels = torch.zeros(len(unmet), dtype=torch.uint8)
    labels[seen] = (item // len(worlds) + 1).to(torch.uint8)
    return labels.reshape(len(worlds), HEIGHT, WIDTH).numpy()


def render(worlds: Sequence[World], generators: Sequence[np.random.Generator], window: Window) -> np.ndarray:
    """Images (N, rows, columns, 3) uint8. `generators`, one per image, draw its noise.

    On the CPU whatever there is: an H100 rounds one value of 221,184 otherwise, and a replica is known by its bytes.
    """
    rays = SAMPLES * window.pixels  # of an image: its pixels, once for each sample
    batch, noise = _Batch.of(worlds), _Noise.drawn(generators, rays)
    image = torch.arange(len(worlds)).repeat_interleave(rays)
    column, row = (half.repeat(len(worlds)) for half in _quarters(window))
    x, y = window.published(column + 0.5 * noise.pixel[0], row + 0.5 * noise.pixel[1])
    direction = _unit(_view(batch, image, x, y))
    pixel, item = _in_view(worlds, window)
    ray = pixel + item % len(worlds) * (rays - window.pixels)  # the first sample of each pixel
    ray = torch.cat([ray + sample * window.pixels for sample in range(SAMPLES)])
    light = _seen(batch, noise, image, direction, ray, item.repeat(SAMPLES))
    samples = light.reshape(3, len(worlds), SAMPLES, window.pixels).unbind(2)
    mean = (samples[0] + samples[1] + samples[2] + samples[3]) * (1 / SAMPLES)
    level = (mean.clamp(0, 1) * (2**16 - 1) + 0.5).to(torch.int32).permute(1, 2, 0).reshape(-1)
    return take(_SRGB_BYTES, level).reshape(len(worlds), window.rows, window.columns, 3).numpy()


def _quarters(window: Window) -> tuple[Tensor, Tensor]:
    """Column and row (4 * pixels,) of the corner of each pixel's quarters, for one quarter after another."""
    half = torch.tensor([0.0, 0.5])
    column = torch.arange(window.columns) + half.repeat(2)[:, None, None]
    row = torch.arange(window.rows)[:, None] + half.repeat_interleave(2)[:, None, None]
    every = SAMPLES, window.rows, window.columns
    return column.expand(every).flatten(), row.expand(every).flatten()


def _in_view(worlds: Sequence[World], window: Window) -> tuple[Tensor, Tensor]:
    """Pairs of a pixel (P,), counted through all images, and an item (P,) that may show in it."""
    pixels, items = [], []
    for i, world in enumerate(worlds):
        for k, solid in enumerate(world.solids):
            columns, rows = _box(world, solid, window)
            pixel = (i * window.rows + rows[:, None]) * window.columns + columns
            pixels.append(pixel.ravel())
            items.append(np.full(pixel.size, k * len(worlds) + i))
    return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(items))


def _box(world: World, solid: Solid, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the window's pixels that an object's bounding sphere touches."""
    right, up, depth = (world.camera_axes @ (solid.center - world.camera)).tolist()
    ranges = []
    for across, middle, start, extent, count in (
        (right, WIDTH / 2, window.left, window.width, window.columns),
        (-up, HEIGHT / 2, window.top, window.height, window.rows),
    ):
        towards, half = atan2(across, depth), asin(REACH[solid.shape] * solid.radius / hypot(across, depth))
        edges = (middle + FOCAL_LENGTH * tan(angle) for angle in (towards - half, towards + half))
        first, last = (floor((edge - start) * count / extent) for edge in edges)
        ranges.append(np.arange(max(first, 0), min(last + 1, count)))
    return ranges[0], ranges[1]


# ---- scenes and noise as tensors ----


class _Batch(NamedTuple):
    """N worlds. Objects stand in K slots, as many as the fullest world needs; object k of image i is item k * N + i."""

    camera: Tensor  # (3, N)
    axes: Tensor  # (3 axes, 3, N): right, up, forward of the camera
    lamps: Tensor  # (3 lamps, 3, N)
    lamp_axes: Tensor  # (3 lamps, 3 axes, 3, N): both sides, as long as they are, and backward
    center: Tensor  # (3, K, N)
    reach: Tensor  # (K, N) squared radius of the bounding sphere; negative, as no ray can meet it, in empty slots
    turn: Tensor  # (2, K * N) cosine and sine of the rotation
    scale: Tensor  # (K * N,) 1 / radius
    albedo: Tensor  # (3, K * N)
    shape: Tensor  # (K * N,) codes
    material: Tensor  # (K * N,)

    @classmethod
    def of(cls, worlds: Sequence[World]) -> "_Batch":
        count, slots = len(worlds), max(len(world.solids) for world in worlds)
        arrays: dict[str, np.ndarray] = dict(
            camera=np.stack([world.camera for world in worlds], axis=-1),
            axes=np.stack([world.camera_axes for world in worlds], axis=-1),
            lamps=np.stack([world.lamps for world in worlds], axis=-1),
            lamp_axes=np.stack([_lamp_axes(world.lamps) for world in worlds], axis=-1),
            center=np.zeros((3, slots, count)),
            reach=np.full((slots, count), -1.0),
            turn=np.zeros((2, slots, count)),
            scale=np.ones((slots, count)),
            albedo=np.zeros((3, slots, count)),
            shape=np.zeros((slots, count), np.int64),
            material=np.zeros((slots, count), np.int64),
        )
        for i, world in enumerate(worlds):
            for k, solid in enumerate(world.solids):
                arrays["center"][:, k, i] = solid.center
                arrays["reach"][k, i] = (REACH[solid.shape] * solid.radius) ** 2
                arrays["turn"][:, k, i] = cos(solid.rotation), sin(solid.rotation)
                arrays["scale"][k, i] = 1 / solid.radius
                arrays["albedo"][:, k, i] = PALETTE[solid.color] / 255
                arrays["shape"][k, i] = solid.shape
                arrays["material"][k, i] = solid.material
        tensors = {
            name: torch.from_numpy(a.astype(np.float32) if a.dtype == np.float64 else a) for name, a in arrays.items()
        }
        flat = {name: tensors[name].flatten(-2) for name in ("turn", "scale", "albedo", "shape", "material")}
        return cls(**(tensors | flat))


def _lamp_axes(lamps: np.ndarray) -> np.ndarray:
    """(3 lamps, 3 axes, 3): the two sides of each lamp's square and the direction opposite to its light."""
    return np.stack([_axes(lamp) * [[side], [side], [1]] for lamp, side in zip(lamps, _LAMP_SIDES, strict=True)])


class _Noise(NamedTuple):
    """Random numbers for R rays.

    The second half of an image's rays has the negatives of the first half's, all but where in the pixel it is: the
    same law with less grain, as what is too bright in one sample of a pixel is too dark in another.
    """

    pixel: Tensor  # (2, R) in [0, 1): where in its quarter of the pixel a ray goes through
    lamp: Tensor  # (3 lamps, 2, R) in [-1/2, 1/2]: the point of the lamp's square
    lobe: Tensor  # (R,) in [-1/2, 1/2]: which blur a metal's mirror has
    tilt: Tensor  # (3, R) normal: which way it is blurred

    @classmethod
    def drawn(cls, generators: Sequence[np.random.Generator], rays: int) -> "_Noise":
        """Noise for images of `rays` rays each, image after image."""
        pixel, uniform, normal = [], [], []
        for generator in generators:
            pixel.append(generator.random((2, rays), np.float32))
            uniform.append(generator.random((7, rays // 2), np.float32) - np.float32(0.5))
            normal.append(generator.standard_normal((3, rays // 2), np.float32))
        half = np.concatenate([np.stack(uniform, axis=1), np.stack(normal, axis=1)])
        path = torch.from_numpy(np.concatenate([half, -half], axis=-1)).flatten(1)
        pixels = torch.from_numpy(np.stack(pixel, axis=1)).flatten(1)
        return cls(pixels, path[:6].unflatten(0, (3, 2)), path[6], path[7:])


def _view(batch: _Batch, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Directions (3, R), of no set length, from the images' cameras through points x, y (R,) in published pixels."""
    right, up, forward = (_per_ray(axis, image) for axis in batch.axes)
    return forward + (x - WIDTH / 2) * (1 / FOCAL_LENGTH) * right - (y - HEIGHT / 2) * (1 / FOCAL_LENGTH) * up


def _facing(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (R,) between unit vectors, 0 where they point apart."""
    return dot(a, b).clamp(0, 1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.sqrt(dot(vectors, vectors))


def _per_ray(values: Tensor, image: Tensor) -> Tensor:
    """Values (..., N) of images as those (..., R) of the rays that belong to them."""
    if values.shape[-1] == 1:
        return values.expand(*values.shape[:-1], len(image))  # free, where looking up takes a third of the time
    return take(values, image)


# ---- light along rays ----


class _Surface(NamedTuple):
    """What each of R rays meets."""

    image: Tensor  # (R,)
    item: Tensor  # (R,) the object, or -1 for the floor
    distance: Tensor  # (R,) along the ray
    direction: Tensor  # (3, R) of the ray, unit
    point: Tensor  # (3, R)
    normal: Tensor  # (3, R) outward, unit

    def at(self, rays: Tensor) -> "_Surface":
        return _Surface(*(take(part, rays) for part in self))


class _Lamplight(NamedTuple):
    """Light of one lamp at R points."""

    towards: Tensor  # (3, R) unit direction to the sampled point of the lamp
    irradiance: Tensor  # (R,) on the surface, before the lamp's colour


def _seen(batch: _Batch, noise: _Noise, image: Tensor, direction: Tensor, ray: Tensor, item: Tensor) -> Tensor:
    """Light (3, R) that comes to the cameras from unit directions (3, R); pairs (P,) of ray and item may meet."""
    surface, on_object = _meet(batch, image, _per_ray(batch.camera, image), direction, ray, item)
    diffuse, lamps = _direct_light(batch, surface, noise.lamp)
    light = _FLOOR_ALBEDO * diffuse
    lamps = [_Lamplight(*(take(part, on_object) for part in lamp)) for lamp in lamps]
    noise = _Noise(*(take(part, on_object) for part in noise))
    light[:, on_object] = _object_light(batch, surface.at(on_object), noise, take(diffuse, on_object), lamps)
    return light


def _object_light(
    batch: _Batch, surface: _Surface, noise: _Noise, diffuse: Tensor, lamps: Sequence[_Lamplight]
) -> Tensor:
    """Light (3, R) that objects send back: a metal tints its mirror and gloss, a rubber has little of them."""
    albedo = take(batch.albedo, surface.item)
    is_metal = take(batch.material, surface.item) == METAL
    mirrored, grazing = _mirrored(batch, surface, noise, is_metal)
    fresnel = _FRESNEL_FACING + _FRESNEL_GRAZING * grazing
    gloss = _gloss(surface, is_metal, lamps)
    return torch.where(is_metal, albedo * (mirrored + gloss), albedo * diffuse + fresnel * mirrored + gloss)


def _direct_light(batch: _Batch, surface: _Surface, lamp_noise: Tensor) -> tuple[Tensor, list[_Lamplight]]:
    """Light (3, R) that a white diffuse surface sends back, and what comes from each of the lamps."""
    offsets = []
    for lamp in range(3):
        side, other_side, _ = _per_ray(batch.lamp_axes[lamp], surface.image)
        sample = lamp_noise[lamp, 0] * side + lamp_noise[lamp, 1] * other_side
        offsets.append(sample + _per_ray(batch.lamps[lamp], surface.image) - surface.point)
    lit = _lit(batch, surface, offsets)
    sun = _facing(surface.normal, surface.normal.new_tensor(_SUN_DIRECTION)[:, None])
    everywhere = 0.5 * (_AMBIENT + _FLOOR_BOUNCE) - 0.5 * _FLOOR_BOUNCE * surface.normal[2]
    diffuse = (everywhere + _SUN / pi * sun).repeat(3, 1)
    lamps = []
    for lamp in range(3):
        square = dot(offsets[lamp], offsets[lamp])
        towards = offsets[lamp] / torch.sqrt(square)
        emitted = _facing(towards, _per_ray(batch.lamp_axes[lamp, 2], surface.image)) * (_LAMP_POWERS[lamp] / pi)
        irradiance = emitted * _facing(towards, surface.normal) * lit[lamp] / square
        diffuse += irradiance * irradiance.new_tensor([[color / pi] for color in _LAMP_COLORS[lamp]])
        lamps.append(_Lamplight(towards, irradiance))
    return diffuse, lamps


def _gloss(surface: _Surface, is_metal: Tensor, lamps: Sequence[_Lamplight]) -> Tensor:
    """Highlights (3, R) of the lamps, untinted."""
    facing_view = _facing(surface.normal, -surface.direction)
    gloss = torch.zeros_like(surface.point)
    for (towards, irradiance), color in zip(lamps, _LAMP_COLORS, strict=True):
        halfway = _facing(surface.normal, _unit(towards - surface.direction))
        metal = sum(weight * _ggx(halfway, roughness) for roughness, weight in _METAL_LOBES)
        lobes = torch.where(is_metal, _METAL_GLOSS * metal, _RUBBER_GLOSS * _ggx(halfway, _RUBBER_ROUGHNESS))
        # 0.05 in place of the masking of micro-facets, which keeps the edges from glowing.
        strength = irradiance * lobes / (4 * facing_view * _facing(surface.normal, towards) + 0.05)
        gloss += strength * gloss.new_tensor(color)[:, None]
    return gloss


def _ggx(cosine: Tensor, roughness: float) -> Tensor:
    """Share of micro-facets that lie at an angle to the surface (Walter et al. 2007, eq. 33)."""
    width = cosine * cosine * (roughness**2 - 1) + 1
    return roughness**2 / pi * torch.reciprocal(width * width)


def _mirrored(batch: _Batch, surface: _Surface, noise: _Noise, is_metal: Tensor) -> tuple[Tensor, Tensor]:
    """Light (3, R) from the mirror direction about a blurred normal, and how grazing (R,) it is: (1 - cosine)^5."""
    sharp = is_metal & (noise.lobe < _SHARP_SHARE - 0.5)
    tilt = torch.where(sharp, _SHARP_TILT, _BLURRED_TILT)
    normal = _unit(surface.normal + tilt * noise.tilt)
    cosine = dot(surface.direction, normal)
    direction = surface.direction - 2 * cosine * normal
    origin = surface.point + _LIFT * surface.normal
    pairs = _candidates(batch, _Spheres.around(batch, surface.image, origin), surface, direction)
    behind, _ = _meet(batch, surface.image, origin, direction, *pairs)
    diffuse, _ = _direct_light(batch, behind, noise.lamp)
    backdrop = _backdrop(batch, surface.image, direction)
    nearness = 1 - (_FLOOR_FADE * behind.distance).clamp(0, 1)
    on_floor = backdrop + nearness * (_FLOOR_ALBEDO * diffuse - backdrop)
    item = behind.item.clamp_min(0)
    brightness = torch.where(take(batch.material, item) == METAL, _METAL_IN_MIRROR, 1.0)
    light = torch.where(behind.item < 0, on_floor, take(batch.albedo, item) * (brightness * diffuse))
    left_over = 1 - cosine.abs().clamp(0, 1)
    return light, left_over * left_over * left_over * left_over * left_over


def _backdrop(batch: _Batch, image: Tensor, direction: Tensor) -> Tensor:
    """Light (R,) from beyond the floor."""
    forward = _per_ray(batch.axes[2], image)
    length = torch.sqrt(forward[0] * forward[0] + forward[1] * forward[1])
    away = (direction[0] * forward[0] + direction[1] * forward[1]) / length
    return _BACKDROP * (_BACKDROP_OFFSET + away).clamp(0, 1) * (1 - direction[2].clamp(0, 1)) + _WORLD


# ---- what rays meet ----


def _meet(
    batch: _Batch, image: Tensor, origin: Tensor, direction: Tensor, ray: Tensor, item: Tensor
) -> tuple[_Surface, Tensor]:
    """The first surface on each of R rays, and which rays (H,) meet an object; pairs (P,) of ray and item may meet.

    Upward rays that meet none get a point of the floor at no real distance.
    """
    to_floor = (origin[2] / (-direction[2]).clamp_min(1e-6)).clamp_max(NOTHING)
    distance, on_object, found = _first(batch, to_floor, ray, item, take(origin, ray), take(direction, ray))
    items = torch.full_like(image, -1)
    items[on_object] = found
    point = origin + distance * direction
    normal = torch.zeros_like(point)
    normal[2] = 1
    normal[:, on_object] = _normals(batch, found, take(point, on_object))
    return _Surface(image, items, distance, direction, point, normal), on_object


def _first(
    batch: _Batch, limit: Tensor, ray: Tensor, item: Tensor, origin: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (R,) to what each ray meets first, and the rays (H,) for which that is an object, with its item (H,).

    `limit` (R,) is the distance to what else there is. Ray and item (P,) are the pairs that may meet, and origin and
    direction (3, P) those of their rays.
    """
    distance = _distances(batch, item, origin, direction)
    nearest = limit.scatter_reduce(0, ray, distance, "amin")
    first = ((distance == take(nearest, ray)) & (distance < NOTHING)).nonzero().squeeze(1)
    return nearest, take(ray, first), take(item, first)


def _lit(batch: _Batch, surface: _Surface, offsets: Sequence[Tensor]) -> Tensor:
    """(lamps, R) 0 where another object stands between the surface and its point + offset (3, R), otherwise 1."""
    count = len(surface.item)
    origin = surface.point + _LIFT * surface.normal
    spheres = _Spheres.around(batch, surface.image, origin)
    pairs = [_candidates(batch, spheres, surface, offset) for offset in offsets]
    distance = _distances(  # of all lamps at once, as each call takes its time
        batch,
        torch.cat([item for _, item in pairs]),
        torch.cat([take(origin, ray) for ray, _ in pairs], dim=1),
        torch.cat([take(offset, ray) for offset, (ray, _) in zip(offsets, pairs, strict=True)], dim=1),
    )
    place = torch.cat([lamp * count + ray for lamp, (ray, _) in enumerate(pairs)])
    lit = torch.ones(len(offsets) * count)
    lit[take(place, (distance < 1).nonzero().squeeze(1))] = 0
    return lit.reshape(-1, count)


class _Spheres(NamedTuple):
    """Bounding spheres of all slots, as seen from where R rays start."""

    start: Tensor  # (3, R)
    center: Tensor  # (3, K, R)
    outside: Tensor  # (K, R) squared distance to the middle less the squared radius

    @classmethod
    def around(cls, batch: _Batch, image: Tensor, start: Tensor) -> "_Spheres":
        x, y, z = _per_ray(2 * batch.center, image)
        constant = _per_ray(dot(batch.center, batch.center) - batch.reach, image)
        outside = (constant - x * start[0]).sub_(y * start[1]).sub_(z * start[2]).add_(dot(start, start))
        return cls(start, _per_ray(batch.center, image), outside)


def _candidates(batch: _Batch, spheres: _Spheres, surface: _Surface, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a ray (P,) that starts on the surface and an item (P,) whose bounding sphere it meets.

    Its own item is left out: objects are convex.
    """
    # In place and with fused products, as most of the time goes here; a sphere is wide enough for any rounding.
    x, y, z = spheres.center
    along = (x * direction[0]).addcmul_(y, direction[1]).addcmul_(z, direction[2])
    along.sub_(dot(spheres.start, direction)).clamp_min_(0)
    meets = along.mul_(along) > spheres.outside * dot(direction, direction)
    slot, ray = meets.nonzero(as_tuple=True)
    item = slot * batch.camera.shape[1] + take(surface.image, ray)
    others = (item != take(surface.item, ray)).nonzero().squeeze(1)
    return take(ray, others), take(item, others)


# ---- shapes in their places ----


def _distances(batch: _Batch, item: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Distance (P,), in lengths of the direction, at which each ray enters its item."""
    origin = _turned(batch, item, origin - take(batch.center.flatten(1), item))
    direction = _turned(batch, item, direction)
    shape = take(batch.shape, item)
    distance = torch.empty_like(direction[0])
    for code in BEVEL:
        chosen = (shape == code).nonzero().squeeze(1)
        distance[chosen] = enter(code, take(origin, chosen), take(direction, chosen))
    return distance


def _normals(batch: _Batch, item: Tensor, point: Tensor) -> Tensor:
    """Unit normals (3, P) of items at points (3, P) on them."""
    local = _turned(batch, item, point - take(batch.center.flatten(1), item))
    outward = torch.empty_like(local)
    shape = take(batch.shape, item)
    for code in BEVEL:
        chosen = (shape == code).nonzero().squeeze(1)
        outward[:, chosen] = from_core(code, take(local, chosen))
    x, y, z = _unit(outward)
    cosine, sine = take(batch.turn, item)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z])


def _turned(batch: _Batch, item: Tensor, vector: Tensor) -> Tensor:
    """A vector (3, P) of the world in the frames of items."""
    cosine, sine = take(batch.turn, item)
    x, y, z = vector
    return torch.stack([cosine * x + sine * y, cosine * y - sine * x, z]) * take(batch.scale, item)

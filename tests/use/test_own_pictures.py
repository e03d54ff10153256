"""Pictures of every kind become what the model takes, and what is no picture is refused with a sentence."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from emorl.data.prepare import resize
from emorl.runtime.errors import UserError
from emorl.use.pictures import read_square

SIZE = 12
RNG = np.random.default_rng(0)
SCENE = RNG.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def saved(tmp_path, image, name="picture.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def pixels(path):
    return read_square(path, SIZE).pixels


def test_a_picture_of_the_models_size_is_taken_as_it_is(tmp_path):
    square = read_square(saved(tmp_path, Image.fromarray(SCENE)), SIZE)
    np.testing.assert_array_equal(square.pixels, SCENE)
    assert (square.picture, square.crop) == ((12, 12), (0, 0, 12, 12))


@pytest.mark.parametrize(("width", "height", "crop"), [(60, 41, (9, 0, 50, 41)), (30, 50, (0, 10, 30, 40))])
def test_the_middle_square_is_resized_as_the_training_data(tmp_path, width, height, crop):
    wide = RNG.integers(0, 256, (height, width, 3), np.uint8)
    square = read_square(saved(tmp_path, Image.fromarray(wide)), SIZE)
    left, upper, right, lower = crop
    np.testing.assert_array_equal(square.pixels, resize(wide[upper:lower, left:right], SIZE))
    assert (square.picture, square.crop) == ((width, height), crop)


def test_one_pixel(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (1, 1), (10, 20, 30)))
    np.testing.assert_array_equal(pixels(path), np.broadcast_to([10, 20, 30], (SIZE, SIZE, 3)))


def test_files_images_and_arrays_are_the_same(tmp_path):
    path = saved(tmp_path, Image.fromarray(SCENE))
    for picture in (str(path), Image.open(path), SCENE):
        np.testing.assert_array_equal(pixels(picture), SCENE)


# ---- Kinds ----


def test_grey(tmp_path):
    grey = SCENE[..., 0]
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(grey))), grey[..., None].repeat(3, 2))


def test_black_and_white(tmp_path):
    bits = SCENE[..., 0] > 127
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(bits)))[..., 0], 255 * bits)


def test_16_bit_grey_is_scaled_not_cut_off(tmp_path):
    deep = RNG.integers(0, 2**16, (SIZE, SIZE)).astype(np.uint16)
    expected = np.round(deep / 65535 * 255)
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(deep)))[..., 1], expected)


def test_16_bit_colour(tmp_path):
    """Pillow writes none, so by hand: a PNG of a few chunks."""
    deep = RNG.integers(0, 2**16, (SIZE, SIZE, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    path = tmp_path / "deep.png"
    path.write_bytes(png(SIZE, SIZE, zlib.compress(rows), depth=16))
    assert np.abs(pixels(path) - deep / 257.0).max() <= 1


def test_palette(tmp_path):
    image = Image.fromarray(SCENE).quantize(16)
    np.testing.assert_array_equal(pixels(saved(tmp_path, image)), np.asarray(image.convert("RGB")))


def test_transparency_lies_over_black(tmp_path):
    alpha = RNG.integers(0, 256, (SIZE, SIZE, 1), np.uint8)
    image = Image.fromarray(np.concatenate([SCENE, alpha], 2))
    assert np.abs(pixels(saved(tmp_path, image)) - SCENE * (alpha / 255)).max() <= 1


def test_transparent_colour_of_a_palette(tmp_path):
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    found = pixels(saved(tmp_path, image, transparency=1))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert not found[1:].any()


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0))
    found = pixels(saved(tmp_path, image, "print.jpg", quality=100))
    assert np.abs(found - np.array([255.0, 0, 0])).max() <= 2


def test_exif_turns_a_picture_upright(tmp_path):
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:10] = 255  # a bright top, in a portrait
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    turned = Image.fromarray(np.rot90(upright))
    path = saved(tmp_path, turned, "turned.jpg", exif=exif, quality=95)
    square = read_square(path, 20)
    assert square.picture == (20, 40)
    assert square.crop == (0, 10, 20, 30)
    whole = read_square(saved(tmp_path, Image.fromarray(np.rot90(upright[:20])), "top.jpg", exif=exif, quality=95), 20)
    assert whole.pixels[:8].min() > 240
    assert whole.pixels[12:].max() < 15


# ---- What is refused ----


def png(width, height, data=b"", depth=8):
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    parts = [struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "bad.gif")
    return (tmp_path / "bad.gif").read_bytes()


def half_a_photo(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    return content[: len(content) // 2]


@pytest.mark.parametrize(("content", "sentence"), [
    (lambda _: b"", "not a PNG, JPEG or WebP picture"),
    (lambda _: b"no picture at all", "not a PNG, JPEG or WebP picture"),
    (gif, "not a PNG, JPEG or WebP picture"),
    (half_a_photo, "cannot be read: it is damaged"),
    (lambda _: png(100, 100, zlib.compress(b"\0\0\0")), "cannot be read: it is damaged"),
    (lambda _: png(30000, 30000), "more than 178 million pixels"),
])  # fmt: skip
def test_what_is_no_picture_is_refused(tmp_path, content, sentence):
    path = tmp_path / "bad.png"
    path.write_bytes(content(tmp_path))
    with pytest.raises(UserError, match=sentence) as error:
        read_square(path, SIZE)
    assert str(path) in str(error.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        read_square(tmp_path / "missing.png", SIZE)
    with pytest.raises(UserError, match="is no file"):
        read_square(tmp_path, SIZE)


@pytest.mark.parametrize("array", [SCENE / 255, SCENE[..., 0], SCENE[None], SCENE[:0]])
def test_other_arrays_are_refused(array):
    with pytest.raises(UserError, match=r"must be \(H, W, 3\) uint8"):
        read_square(array, SIZE)


def test_other_images_are_refused(tmp_path):
    (tmp_path / "half.jpg").write_bytes(half_a_photo(tmp_path))
    for image in (Image.fromarray(np.float32(SCENE[..., 0] / 255)), Image.new("RGB", (0, 3))):
        with pytest.raises(UserError, match="is no picture: it must have colours"):
            read_square(image, SIZE)
    with pytest.raises(UserError, match="the image cannot be read"):
        read_square(Image.open(tmp_path / "half.jpg"), SIZE)


@pytest.mark.parametrize("what", [None, 3, b"bytes", torch.zeros(3, 8, 8)])
def test_what_is_neither_file_nor_image_is_refused(what):
    with pytest.raises(UserError, match="is no picture: it must be a file, an image or an array"):
        read_square(what, SIZE)

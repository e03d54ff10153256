"""Short clips taken apart frame by frame: a film of what `segment` shows of each.

Every frame is inferred by itself with the same noise, which mostly leaves an object in its slot; nothing makes it.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageSequence

from emorl.runtime.errors import UserError
from emorl.runtime.progress import progress
from emorl.use.files import overview, row_of
from emorl.use.films import write_gif
from emorl.use.pictures import read_square
from emorl.use.trained import TrainedModel

FORMATS = ("GIF", "WEBP", "PNG")
MOST_FRAMES = 500
DEFAULT_MILLISECONDS = 100.0
"""Per frame, of what does not say."""


@dataclass(frozen=True)
class Clip:
    pictures: Sequence[Image.Image]
    """RGB, all of one size."""
    milliseconds: float
    """That a frame is shown."""


def read_clip(path: Path) -> Clip:
    """The frames of a GIF, animated WebP or PNG, or, where ffmpeg is installed, of what it reads. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
            milliseconds = float(image.info.get("duration") or DEFAULT_MILLISECONDS)
    except Exception:  # what damaged files bring Pillow to raise is of many kinds
        frames, milliseconds = _by_ffmpeg(path), DEFAULT_MILLISECONDS
    if len(frames) > MOST_FRAMES:
        raise UserError(f"{path} has {len(frames)} frames; at most {MOST_FRAMES} are taken apart: cut it first")
    return Clip(frames, milliseconds)


def _by_ffmpeg(path: Path) -> list[Image.Image]:
    """Ten frames a second."""
    if shutil.which("ffmpeg") is None:
        raise UserError(f"{path} is no GIF, WebP or PNG; ffmpeg, which reads other clips, is not installed")
    with TemporaryDirectory() as folder:
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", "fps=10", f"{folder}/%06d.png"]
        if subprocess.run(command, capture_output=True).returncode:
            raise UserError(f"{path} cannot be read: ffmpeg finds no clip in it")
        return [Image.open(file).convert("RGB") for file in sorted(Path(folder).glob("*.png"))]


def segment_clip(model: TrainedModel, clip: Clip, out: Path, seed: int) -> None:
    """Write a GIF `out`: in each frame what the model saw, its reconstruction, masks and slots."""
    shown = []
    for picture in progress(clip.pictures, "segment", "frames", total=len(clip.pictures)):
        pixels = read_square(picture, model.checkpoint.image_size).pixels
        found = model.segment_square(pixels, seed)
        image = pixels.transpose(2, 0, 1)
        shown.append(overview([row_of(image, found.reconstruction[0], found.masks[0], found.reconstructions[0])]))
    write_gif(out, shown, clip.milliseconds)

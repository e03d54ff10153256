"""Example decompositions in the manner of Figure 5: image, reconstruction, masks, and each slot's share."""

from matplotlib.figure import Figure

from emorl.reporting.figures import drawing
from emorl.reporting.figures.pictures import Block, Shown, draw_blocks, hwc, over_white, owners
from emorl.reporting.figures.style import slot_palette


@drawing("decompositions", "pictures")
def decompositions(shown: list[Shown], note: str) -> Figure:
    """One block per run, of arrays as `emorl.evaluation.decomposition.Examples`: a row per image."""
    return draw_blocks([_block(run) for run in shown], note, font=6.5)


def _block(run: Shown) -> Block:
    """Image, reconstruction, arg-max mask in colours, then mask x reconstruction of each slot."""
    title, examples = run
    slots = examples["masks"].shape[1]
    palette = slot_palette(slots)
    names = ("images", "reconstruction", "masks", "reconstructions")
    rows = [
        [hwc(image), hwc(reconstruction), owners(masks, palette), *map(over_white, reconstructions, masks)]
        for image, reconstruction, masks, reconstructions in zip(*(examples[name] for name in names), strict=True)
    ]
    return Block(title, ["image", "reconstruction", "masks", *(f"slot {k + 1}" for k in range(slots))], rows)

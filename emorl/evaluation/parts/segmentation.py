"""Segmentation metrics on label maps, and the released protocol that turns soft masks into one.

All functions take batches of flat or square integer label maps and return one number per image.
"""

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment


def segment(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Hard slots from soft masks (N, K, H, W): resized to the truth's size, then arg-max. Returns (N, h, w) uint8.

    The released evaluation resizes the soft masks, not the labels, by Pillow's bicubic filter (CLEVR, 96 to 192).
    """
    if masks.shape[2:] != (height, width):
        resized = np.empty((*masks.shape[:2], height, width), np.float32)
        for n, k in np.ndindex(masks.shape[:2]):
            image = Image.fromarray(masks[n, k].astype(np.float32))
            resized[n, k] = image.resize((width, height), Image.Resampling.BICUBIC)
        masks = resized
    return masks.argmax(1).astype(np.uint8)


def adjusted_rand_index(truth: np.ndarray, prediction: np.ndarray, foreground_only: bool) -> np.ndarray:
    """ARI (Hubert & Arabie 1985) of label maps (N, ...) against the truth, per image, in (-1, 1].

    With `foreground_only`, pixels whose true label is 0 leave the comparison and nothing else does. Two partitions
    that are both a single cluster score 1; an image without foreground scores 0, the value of the released code.
    """
    scores = np.empty(len(truth))
    for n, (t, p) in enumerate(zip(truth, prediction, strict=True)):
        counted = t > 0 if foreground_only else np.ones_like(t, bool)
        scores[n] = _ari_of_contingency(contingency(t[counted], p[counted]))
    return scores


def mean_best_overlap(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Mean over true objects (labels > 0) of the best IoU with any predicted segment, per image, in [0, 1]."""
    overlaps = [_overlaps(t, p) for t, p in zip(truth, prediction, strict=True)]
    return np.array([overlap.max(1).mean() if len(overlap) else 0.0 for overlap in overlaps])


def mean_iou(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Mean over true objects (labels > 0) of the IoU with a predicted segment of their own, 0 for one that gets none,
    under the one-to-one matching that makes it greatest; per image, in [0, 1]."""
    scores = np.zeros(len(truth))
    for n, (t, p) in enumerate(zip(truth, prediction, strict=True)):
        if len(overlap := _overlaps(t, p)):
            scores[n] = overlap[linear_sum_assignment(overlap, maximize=True)].sum() / len(overlap)
    return scores


def _overlaps(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """IoU of each visible object with each predicted segment, (objects, segments)."""
    table = contingency(truth.ravel(), prediction.ravel())
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    overlap = np.divide(table, union, out=np.zeros(table.shape), where=union > 0)
    return overlap[1:][table.sum(1)[1:] > 0]


def background_share(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Share of the background's pixels (label 0) that the segment with most of them holds, per image, in (0, 1]."""
    shares = np.empty(len(truth))
    for n, (t, p) in enumerate(zip(truth, prediction, strict=True)):
        held = np.bincount(p[t == 0])
        shares[n] = held.max() / held.sum()
    return shares


def contingency(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Counts (labels of truth, labels of prediction) of two flat label vectors; empty labels keep their zero rows."""
    rows, columns = int(truth.max(initial=0)) + 1, int(prediction.max(initial=0)) + 1
    joint = np.bincount(truth.astype(np.int64) * columns + prediction, minlength=rows * columns)
    return joint.reshape(rows, columns)


def _ari_of_contingency(table: np.ndarray) -> float:
    points = table.sum()
    if points == 0:
        return 0.0
    pairs, row_pairs, column_pairs = (
        (counts * (counts - 1) / 2).sum() for counts in (table, table.sum(1), table.sum(0))
    )
    all_pairs = points * (points - 1) / 2
    expected = row_pairs * column_pairs / all_pairs if all_pairs else 0.0
    maximum = (row_pairs + column_pairs) / 2
    return 1.0 if maximum == expected else float((pairs - expected) / (maximum - expected))

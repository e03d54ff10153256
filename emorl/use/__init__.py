"""Using a trained model on pictures of one's own: `emorl segment`, `traverse` and `export`, and `emorl.load`.

Slots and dimensions are counted from 0, as in the arrays.
"""

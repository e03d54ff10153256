"""EfficientMORL (ICML 2021) as a reproducibility pipeline: see README.md and docs/."""

"""Consistent checkpoints of whole jobs: taking them, keeping them, and bringing jobs back from them."""

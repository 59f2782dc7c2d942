"""Pretrains the built-in backbone on images made by formula: `python -m mimi_edge.training.pretraining`."""

"""Charts: one style and one way to save them for the whole project, and the picture of a run."""

from mimi_edge.charts.neurons import draw_neurons_per_site

__all__ = ["draw_neurons_per_site"]

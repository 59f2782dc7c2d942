"""mimi-edge: many vision tasks on one small device, one small file a task."""

__version__ = "0.1.0"

"""TensorRT engines: building them from graphs, keeping them beside what they are, running and proving them."""

"""TensorRT itself: finding it, what differs between its versions, and what its messages mean."""

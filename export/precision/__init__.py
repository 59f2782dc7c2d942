"""The number formats an engine computes in: half precision and INT8, and which layers cannot be."""

"""A task is one small file: adapters that survived pruning, the head, and what is needed to use them."""

"""Ways to adapt a frozen network, each as a description without torch; `catalogue` lists them.

A method says which tensors a task file stores, along which axes they may be shortened, and which edits they make to the
network. Training, merging and counting know edits and no method.
"""

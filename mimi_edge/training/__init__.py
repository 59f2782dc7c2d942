"""Everything that needs torch to make a task: backbones, adapters, rounds, checkpoints, runs."""

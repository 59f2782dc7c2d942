"""Archives that bring packages and tasks to devices without a network, and the way back from what they brought."""

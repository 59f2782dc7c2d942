"""Images: reading them rightly, making them fit a backbone, and finding them in folders."""

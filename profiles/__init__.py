"""What a thing costs: runtimes under measurement, the measurements, reports."""

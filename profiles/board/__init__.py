"""What the machine under a measurement tells of itself: power, clocks, temperatures, throttling."""

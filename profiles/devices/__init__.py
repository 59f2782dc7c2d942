"""What is known of devices before one has them: data sheets as files, and what they let one expect."""

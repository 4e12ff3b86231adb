"""Which op breaks."""

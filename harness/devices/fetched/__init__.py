"""What is fetched from an address, by its digest."""

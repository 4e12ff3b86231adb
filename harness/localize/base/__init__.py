"""What a model should give and by how much it may differ, and what a localization says in the end."""

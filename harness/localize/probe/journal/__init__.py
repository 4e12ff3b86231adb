"""What was asked of the device and what came back, kept so that a run can go on after it was cut off."""

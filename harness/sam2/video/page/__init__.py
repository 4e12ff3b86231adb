"""What the tap page needs of the tracker."""

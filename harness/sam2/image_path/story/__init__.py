"""What `harness demo` tells of the published mask decoder, in the order of its model card's question."""

"""Single questions to a device, each with its judgement: one op in place, one op in isolation, one subgraph."""

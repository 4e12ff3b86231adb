"""The rules, in the order they are listed. A new rule is a module in `harness/lint/rules` and a line here."""

from __future__ import annotations

from harness.lint.rule import Rule
from harness.lint.rules import (
    low_rank_constant,
    low_rank_integer_constant,
    low_rank_tensor,
    matmul_constant_adj_y,
    matmul_unequal_batches,
    unflattened_fully_connected,
)

RULES: tuple[Rule, ...] = (
    low_rank_constant.RULE,
    low_rank_tensor.RULE,
    low_rank_integer_constant.RULE,
    matmul_constant_adj_y.RULE,
    matmul_unequal_batches.RULE,
    unflattened_fully_connected.RULE,
)

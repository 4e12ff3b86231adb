"""Which op breaks. The package is a function as well, `harness.localize(model)`: both have the one name."""

import sys

from harness import FunctionAndPackage

sys.modules[__name__].__class__ = FunctionAndPackage

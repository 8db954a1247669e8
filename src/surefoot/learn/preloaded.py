"""What trainings of networks need, and would else import at its first use: whoever forks workers imports it once for all.

Not in a function, since a server that forks can be told of modules alone. What is not there does no harm: not every problem
needs it.
"""

from contextlib import suppress
from importlib import import_module

import surefoot.learn.part
import surefoot.networks
import surefoot.stacked
import surefoot.zoo  # noqa: F401 - they are imported for those that come after

# The first optimizer that PyTorch makes imports the one, the first problem on digits the other: more than a second each.
for _name in ("torch._dynamo", "sklearn.datasets"):
    with suppress(ImportError):
        import_module(_name)

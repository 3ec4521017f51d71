"""First on PYTHONPATH of a run: the ranks that `bench run` starts import it before anything else, and get the fault."""

import os
import sys

if "SEEDED_FAULT" in os.environ and any("rank_process:main" in word for word in sys.orig_argv):
    from tests.seeded.injection import inject

    inject(os.environ["SEEDED_FAULT"], sys.orig_argv[-1])

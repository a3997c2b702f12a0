"""Every Python process that a test starts runs this first.

To load libraries makes a million objects, and no garbage. A collector that looks for it after each
700 of them takes a sixth of the time that loading takes, and loading is most of what they do.
"""

import gc

gc.set_threshold(50_000)

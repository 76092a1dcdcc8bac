"""What customers are worth, what they need, and who is leaving."""

import os

# On arrays as short as ours OpenBLAS's threads wait for each other ten times longer than they compute. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

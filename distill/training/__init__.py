"""Labels -> a calibrated checkpoint, measured on held-out conversations."""

import os

# Training on a processor takes and gives back tensors of tens of megabytes at each step, and Linux zeroes each page of
# them; in huge pages there are 512 times fewer. torch asks for them only if told so before its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

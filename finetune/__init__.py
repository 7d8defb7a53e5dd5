"""Load a base, adapt it, train the adapter, merge it: weights only."""

from finetune import outside

outside.close()

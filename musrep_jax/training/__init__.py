"""The training room: it receives functions and data, and knows neither models nor losses.

`optim` builds optimisers from settings, `step` one update of the state, `loop` the one training
loop, `sharding` spreads batches over devices, `logs` writes what happened, and `checkpoints` (the
only file that imports orbax, so it is imported by name) keeps training states and exports models.
"""

"""Training: receives functions and data, and depends on neither models nor losses.

`objective` is what it needs of a way of learning, and `program` trains one. `optim` builds
optimizers from settings (`descent` and `plateau` are their parts), `step` is one update of the
state, `loop` the one training loop, `sharding` spreads batches over devices, `streams` says what a
batch is, `logs` writes what happened, and `checkpoints` keeps training states and exports models;
it is imported by name, as `array_files` below it is the one file that imports orbax.
"""

"""From stored tracks to batches."""

"""The task of few-shot learning: episodes of few labels and few examples on frozen features."""

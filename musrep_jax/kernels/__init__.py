"""Formulations of operations that are fast on one kind of device, chosen by backend."""

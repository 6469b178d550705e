"""The task of probing: frozen features of any origin under small classifiers, on any data set."""

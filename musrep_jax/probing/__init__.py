"""Judging frozen features: small classifiers, folds of examples and distances, on arrays alone.

`classifiers.CLASSIFIERS` has the classifiers by name, `folds` divides examples into training and
test, `neighbors` measures distances in blocks. This room knows no files, models or configs.
"""

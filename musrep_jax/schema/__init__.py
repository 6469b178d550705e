"""What every field of a config may hold, and the check of a config before anything is done.

`fields.FIELDS` has one rule per field, `checks.check_config` applies
them and the relations between fields, `names.check_names` looks for the data sets, folders and
exports that a config names.
"""

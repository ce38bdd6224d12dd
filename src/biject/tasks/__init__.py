"""Raw text in, results out: one file per task, and `pipeline`, which follows the checkpoint's head."""

"""Rows of measurements as a CSV file, for the scripts of this folder that write one."""

import csv

from unet_tutorial.runs.files import new_file


def write(path, rows):
    """Write the rows to a file that is complete or not there."""
    with new_file(path, overwrite=True) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)

"""The tasks of the course, one file per notebook; `unet_tutorial.tasks` opens them."""

"""The exercises of the course: one file per lesson, each with a list named `EXERCISES`."""

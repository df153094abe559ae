"""Real fine-tunes: your rows, your base model, an interrupted night, a second process.

data.py      reading rows: files, datasets, lists
encode.py    rows to tokens: what is masked, cut and packed
trainer.py   transformers' Trainer with checkpoints that hold the adapter alone
settings.py  one run's settings, from the command line or a .toml file
run.py       the run itself
"""

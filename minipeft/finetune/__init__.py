"""Real fine-tunes: your rows, your base model, an interrupted night, a second process.

settings.py     one run's settings, from the command line or a .toml file; defaults.py by method
run.py          the run itself: minipeft train
sources.py      where rows come from; rows.py what a row must be; data.py both, as a Table
encode.py       rows to tokens: what is masked, cut and packed
trainer.py      transformers' Trainer with checkpoints that hold the adapter; sft.py trl's
checkpoints.py  checkpoints as folders, whole or not there
measure.py      the order of the rows, and held-out numbers per label
signals.py      Ctrl-C and SIGTERM; watch.py what is seen meanwhile; card.py what is left
"""

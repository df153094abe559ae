"""LoRA's further options, a file each; nobody enters one unless a config, or a layer, asks for it.

patterns     another r or α for some layers; adapters in some of the numbered layers only
replication  a deeper model out of the same weights
embedding    beside an embedding
conv         beside a convolution
orthogonal   init_lora_weights="orthogonal"
bias         biases trained as well
weighted     several LoRAs added up into a new one

DoRA and LoftQ, which are methods of their own papers, stand in dora.py and loftq.py above, and join
in `minipeft/__init__.py`. What every LoRA needs is in lora.py.
"""

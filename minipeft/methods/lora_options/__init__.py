"""LoRA's further options, a file each; nobody enters one unless a config, or a layer, asks for it.

patterns     another r or α for some layers; adapters in some of the numbered layers only
replication  a deeper model out of the same weights
embedding    beside an embedding
conv         beside a convolution
orthogonal   init_lora_weights="orthogonal"
bias         biases trained as well
weighted     several LoRAs added up into a new one

A new one is a file with an `Option` (../method.py), a field of `LoraConfig` with its rule, and its
name in `LORA_OPTIONS` in `minipeft/__init__.py`. DoRA and LoftQ are options, too, and stand in
dora.py and loftq.py above. `orthogonal` is a start that `LoRALayer` takes; `weighted` is what
`add_weighted_adapter` computes. What every LoRA needs is in lora.py.
"""

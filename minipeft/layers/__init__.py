"""A frozen layer, seen as one matrix W (out, in), whatever its class and however it is stored.

bases     nn.Linear, GPT-2's Conv1D, embeddings, convolutions, packed layers behind one face
families  what the families of models call their parts: the tables of names
names     which of a model's layers are linear, and which of these is the output layer
quant/    weights in four bits: the codebook, the blocks, the layer; bitsandbytes' beside it

No adapter is known here. What stands beside a layer is in methods/, how it gets there in tuner/.
"""

"""How adapters get into a model, and out of it again.

plan      which layers a config means, and the modules beside them: complete, not attached
demands   what names must mean, or be refused; heads: which modules are trained whole
attach    the model with slots in it: attach, activate, merge, take out
slots     the places: a wrapper beside one layer; copies: modules trained whole
prompts   virtual tokens around the whole model; rows: an adapter for each row of a batch
merging   what W and b are with adapters folded in; quantize: a model's layers in four bits

What a method computes is in methods/, what is on the disk in saving/.
"""

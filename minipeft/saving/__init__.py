"""Hugging Face peft's two files on the disk: written whole or not at all, and read with doubt.

checkpoint      save and load one adapter
keys            the names of its tensors on disk
files           where its folder is; its files opened, and the config in them
atomic          all files of a folder changed together; digests: what proves them
prompt_network  the third file, to train a P-tuning on; hub: upload, with a model card

What an adapter is, and how it gets into a model, is in tuner/.
"""

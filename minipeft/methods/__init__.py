"""What the lecture notes derive: a file each, with module, config, count and placement.

method, config                what all methods are: Method, Placement, Option; options with rules
lora, dora, loftq, lora_linear, adapter, bitfit, ia3      beside layers
virtual_tokens, longer_inputs, prompt_tuning, p_tuning, prefix_tuning, p_tuning_v2
                              before the text, or in the attention cache
lora_options/                 LoRA's further options, entered only when they are asked for

A module here is tensors in, tensors out: no adapter names, no model around it. See tuner/.
"""

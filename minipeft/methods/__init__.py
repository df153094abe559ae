"""What the lecture notes derive: a file each, with the module, its config, its count, its placement.

method, config                what all methods are: Method, Placement, Option; options with rules
lora, dora, loftq, lora_linear, adapter, bitfit, ia3      beside layers
virtual_tokens, longer_inputs, prompt_tuning, p_tuning, prefix_tuning, p_tuning_v2
                              before the text, or in the attention cache
lora_options/                 LoRA's further options, entered only when they are asked for

A method module is tensors in, tensors out: no adapter names, no model around it. Those are in tuner/.
"""

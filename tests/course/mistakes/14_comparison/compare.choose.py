"""Answers to compare.choose: what is scarce in each situation."""

from minipeft.course.corpus import right, wrong

RIGHT = {
    "one card": "qlora",
    "thousand users": "ia3",
    "sealed server": "prompt_tuning",
    "phone": "lora",
    "last drop": "full",
}

lora_13b = wrong("one card: lora does not fit: 13 billion weights in 16 bits take 26 GB")(
    RIGHT | {"one card": "lora"}
)
full_13b = wrong("208 GB")(RIGHT | {"one card": "full"})
lora_users = wrong("over 10 MB in 32 bits")(RIGHT | {"thousand users": "lora"})
prompt_users = wrong("did not learn the tasks")(RIGHT | {"thousand users": "prompt_tuning"})
bitfit_users = wrong("has no biases")(RIGHT | {"thousand users": "bitfit"})
prefix_server = wrong("it takes only embeddings")(RIGHT | {"sealed server": "prefix_tuning"})
lora_server = wrong("it changes something inside the model")(RIGHT | {"sealed server": "lora"})
adapter_phone = wrong("it cannot be merged")(RIGHT | {"phone": "adapter"})
prompt_phone = wrong("more positions in every forward pass")(RIGHT | {"phone": "prompt_tuning"})
lora_drop = wrong("nothing is scarce here")(RIGHT | {"last drop": "lora"})
unknown = wrong("is no key of METHODS")(RIGHT | {"phone": "LoRA"})
one_missing = wrong("the keys are")({"one card": "qlora"})
a_word = wrong("give a dictionary")("lora")

as_asked = right(RIGHT)
others = right(
    RIGHT | {"one card": "loftq", "sealed server": "p_tuning", "phone": "dora"},
)

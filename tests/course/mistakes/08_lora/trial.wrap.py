"""Answers to trial.wrap: a config, handed to the model."""

import minipeft
from minipeft import LoraConfig, get_peft_model
from minipeft.course.corpus import right, wrong

CONFIG = {"r": 8, "target_modules": ["seq.0", "seq.2"], "modules_to_save": ["seq.4"]}


@wrong("all 259 numbers of the model train: the config was not put to work")
def as_written(model):
    LoraConfig(**CONFIG)
    return model


@wrong("NameError: name 'peft' is not defined")
def not_imported(model):
    config = peft.LoraConfig(**CONFIG)  # noqa: F821
    return get_peft_model(model, config)


@wrong("the answer is None: is there a `return`?")
def nothing_returned(model):
    get_peft_model(model, LoraConfig(**CONFIG))


@wrong("a model is asked for, not LoraConfig")
def the_config(model):
    return LoraConfig(**CONFIG)


@wrong("seq.4 is frozen: modules_to_save is lost")
def without_the_last(model):
    return get_peft_model(model, LoraConfig(r=8, target_modules=["seq.0", "seq.2"]))


@wrong("seq.4 has a LoRA; it is to be trained whole")
def all_adapted(model):
    return get_peft_model(model, LoraConfig(r=8, target_modules=["seq.0", "seq.2", "seq.4"]))


@wrong("the ranks are [4]; asked for is 8")
def another_rank(model):
    return get_peft_model(model, LoraConfig(**{**CONFIG, "r": 4}))


@wrong("does B start at zero?")
def random_start(model):
    return get_peft_model(model, LoraConfig(**CONFIG, init_lora_weights=False))


@right
def module_named(model):
    return minipeft.get_peft_model(model, minipeft.LoraConfig(**CONFIG))


@right
def by_a_pattern(model):
    config = LoraConfig(r=8, target_modules=r"seq\.[02]", modules_to_save=["seq.4"])
    return get_peft_model(model, config)


@right
def constructed(model):
    return minipeft.PeftModel(model, LoraConfig(**CONFIG))

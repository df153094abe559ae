"""Answers to trial.dots: four configs, each with its own option and the given ones."""

from dataclasses import replace

from minipeft import LoraConfig
from minipeft.course.corpus import right, wrong

GIVEN = {"r": 4, "lora_alpha": 32, "target_modules": ["c_attn"]}
TWICE = [[0, 4], [2, 5]]


def configs(**changed):
    """The right dictionary, with some entries exchanged."""
    return {
        "rank-stabilised": LoraConfig(use_rslora=True, **GIVEN),
        "dora": LoraConfig(use_dora=True, **GIVEN),
        "replicated": LoraConfig(layer_replication=TWICE, **GIVEN),
        "all-linear": LoraConfig(r=4, lora_alpha=32, target_modules="all-linear"),
    } | changed


dots_dropped = wrong("that is the default, and not what the dots stand for")(
    configs(dora=LoraConfig(use_dora=True))
)
alpha_dropped = wrong("'dora': lora_alpha is 8, and should be 32")(
    configs(dora=LoraConfig(use_dora=True, r=4, target_modules=["c_attn"]))
)
layers_dropped = wrong("target_modules is None, and should be ['c_attn']: `given` says which")(
    configs(dora=LoraConfig(use_dora=True, r=4, lora_alpha=32))
)
option_dropped = wrong("'dora': use_dora is False, and should be True: the note's own option")(
    configs(dora=LoraConfig(**GIVEN))
)
all_in_one = wrong("'dora': use_rslora is True, and should be False: an option of another")(
    configs(dora=LoraConfig(use_dora=True, use_rslora=True, **GIVEN))
)
given_wins = wrong("'all-linear': target_modules is ['c_attn'], and should be 'all-linear'")(
    configs(**{"all-linear": LoraConfig(**GIVEN)})
)
no_config = wrong("'dora' should be a LoraConfig, but it is dict")(
    configs(dora={"use_dora": True, **GIVEN})
)
a_list = wrong("give a dictionary")(list(configs().values()))
one_lost = wrong("the keys are")({k: v for k, v in configs().items() if k != "dora"})

spelled = right(configs())
replaced = right({name: replace(config, lora_dropout=0.0) for name, config in configs().items()})
pairs = right(configs(replicated=LoraConfig(**GIVEN, layer_replication=[(0, 4), (2, 5)])))

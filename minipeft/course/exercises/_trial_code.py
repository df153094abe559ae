"""What stands in the cells of trial.py: the notes' code with its fault, and mended."""

from __future__ import annotations

MEND = """\
    # YOUR TURN: delete the raise, and mend what follows it.
    raise NotImplementedError("your turn")
"""

WRAP = '''\
{imports}def adapt(model):
    """The model with a LoRA of rank 8 on seq.0 and seq.2, and with seq.4 trained whole."""
{body}'''
WRAP_BUG = """\
    config = peft.LoraConfig(
        r=8,
        target_modules=["seq.0", "seq.2"],
        modules_to_save=["seq.4"],
    )
    return model
"""
WRAP_MENDED = """\
    config = LoraConfig(
        r=8,
        target_modules=["seq.0", "seq.2"],
        modules_to_save=["seq.4"],
    )
    return get_peft_model(model, config)
"""
WRAP_IMPORTS = "from minipeft import LoraConfig, get_peft_model\n\n\n"

HALF = '''\
import torch
from torch import nn


class HalfLoRALinear(nn.Module):
    """Lecture note 003, lines 99 to 121, with A (r, in) and B (out, r)."""

    def __init__(self, base_layer, rank=16, lora_alpha=32):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.scaling = lora_alpha / rank
        self.lora_A = nn.Parameter(torch.zeros(rank, base_layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base_layer.out_features, rank))
        bound = base_layer.in_features**-0.5
        nn.init.uniform_(self.lora_A, -bound, bound)

    def forward(self, x):
{body}'''
HALF_BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        base_output = self.base_layer(x)
        return base_output + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling
"""
HALF_MENDED = """\
        base_output = self.base_layer(x)
        x = x.to(self.lora_A.dtype)  # the update is computed as precisely as it is stored
        update = (x @ self.lora_A.T @ self.lora_B.T) * self.scaling
        return (base_output + update).to(base_output.dtype)
"""

FRESH = '''\
def adapted(load, wrap, configs):
    """A list of adapted models, one for each config, in order."""
{body}'''
FRESH_BUG = """\
    model = load()
    models = []
    for config in configs:
        model = wrap(model, config)
        models.append(model)
    return models
"""
FRESH_MENDED = """\
    return [wrap(load(), config) for config in configs]
"""

EMBED = '''\
def embed(model, input_ids):
    """What stands for the ids (batch, t) in `model(inputs_embeds=...)`: (batch, t, d)."""
{body}'''
EMBED_BUG = """\
    return model.embeddings(input_ids)
"""
EMBED_MENDED = """\
    return model.get_input_embeddings()(input_ids)
"""

DOTS = """\
from minipeft import LoraConfig

# What "..." stands for:
given = {{"r": 4, "lora_alpha": 32, "target_modules": ["c_attn"]}}
{turn}"""
DOTS_BUG = """\
configs = None  # YOUR TURN: the dictionary below, mended
# configs = {
#     "rank-stabilised": LoraConfig(use_rslora=True, ...),
#     "dora": LoraConfig(use_dora=True, ...),
#     "replicated": LoraConfig(layer_replication=[[0, 4], [2, 5]], ...),
#     "all-linear": LoraConfig(..., target_modules="all-linear"),
# }
"""
DOTS_MENDED = """\
configs = {
    "rank-stabilised": LoraConfig(use_rslora=True, **given),
    "dora": LoraConfig(use_dora=True, **given),
    "replicated": LoraConfig(layer_replication=[[0, 4], [2, 5]], **given),
    "all-linear": LoraConfig(**{**given, "target_modules": "all-linear"}),
}
"""

IMPORTS = """\
# 000:L17    config = peft.LoraConfig(r=8, target_modules=["seq.0", "seq.2"])
# 001:L128   model = AutoModelForCausalLM.from_pretrained("./bloom-1b4-zh")
#            peft_model = PeftModel.from_pretrained(model=model, model_id="./Lora/checkpoint-100")
# 003:L180   from transformers import AutoModelForCausalLM, BitsAndBytesConfig
#            config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
#            model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf",
#                                                         quantization_config=config)
{turn}"""
IMPORTS_BUG = """\
before = None  # YOUR TURN: {"000:L17": "import ...", "001:L128": "...", "003:L180": "..."}
"""
IMPORTS_MENDED = """\
before = {
    "000:L17": "import peft",
    "001:L128": "from transformers import AutoModelForCausalLM\\nfrom peft import PeftModel",
    "003:L180": "import torch",
}
"""

"""Note 003's QLoRA, line 180 to 214, as written, with a tiny model under the name that it loads."""

from __future__ import annotations

import pytest
import torch
from conftest import inputs, tiny
from notes_stand_ins import Open, size
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins

import minipeft

QLORA = """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from peft import prepare_model_for_kbit_training, LoraConfig, get_peft_model
    bnb_config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = AutoModelForCausalLM.from_pretrained(
        "meta-llama/Llama-2-7b-hf",
        quantization_config=bnb_config,
        device_map="auto",
        trust_remote_code=True
    )
    model = prepare_model_for_kbit_training(model)
    lora_config = LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "v_proj", "k_proj", "o_proj"],
        lora_dropout=0.05,
        bias="none",
        task_type=TaskType.CAUSAL_LM
    )
    model = get_peft_model(model, lora_config)
    """  # the prints of 003:L217-219 have no part in it


@pytest.mark.slow
def test_003_L180_qlora(notebook: Open, library: str):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(NameError, match="'TaskType' is not defined"):  # L126 had imported it
        notebook(library).run(QLORA)
    model = notebook(library, TaskType=minipeft.TaskType).run(QLORA)["model"]
    # as L126's: its 4-bit layers are counted as what they stand for
    n = 2 * 16 * (2 * (16 + 16) + 2 * (16 + 8))
    assert model.get_nb_trainable_parameters() == (n, size(tiny("llama")) + n)
    llama = model.get_base_model()
    assert type(llama.model.layers[0].self_attn.q_proj.base_layer).__name__ == "Linear4bit"
    assert llama.lm_head.weight.dtype == torch.float32
    assert llama.is_gradient_checkpointing
    model.cpu().train()  # device_map="auto" takes a GPU where there is one
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(**inputs("llama")).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1

"""Note 001, one method after the other, with minipeft in the place of peft."""
# ruff: noqa: E501  (the blocks' lines are as long as they are)

from __future__ import annotations

import pytest
import torch
from conftest import inputs, output, tiny
from notes_stand_ins import TEXT, Notebook, Open, last, line, size, tokenizer
from notes_stand_ins import fixture_library as fixture_library
from notes_stand_ins import fixture_notebook as fixture_notebook
from notes_stand_ins import fixture_stand_ins as fixture_stand_ins
from transformers import AutoModelForCausalLM

import minipeft
from minipeft.checks.errors import StateError, TargetError

R8 = 2 * 8 * (16 + 3 * 16)  # r = 8 beside Q, K and V in one layer of two, 16 wide
BLOCKS = {  # by the line where a block is fenced; without comments and blank lines
    "L24": """
    model = AutoModelForCausalLM.from_pretrained("./bloom-1b4-zh", low_cpu_mem_usage=True)
    num_param = 0
    for name, param in model.named_parameters():
        if "bias" not in name:
            param.requires_grad = False
        else:
            num_param += param.numel()
    num_param
    """,
    "L49": """
    from peft import get_peft_model,PromptTuningConfig,PromptTuningInit,TaskType
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM,num_virtual_tokens=10)
    model = get_peft_model(model,config)
    model.print_trainable_parameters()
    """,  # all but the import is a comment in the note
    "L46": """
    from peft import get_peft_model,PromptTuningConfig,PromptTuningInit,TaskType
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM,prompt_tuning_init=PromptTuningInit.TEXT,
                                prompt_tuning_init_text="下面是人和聊天机器人的对话。",
                                num_virtual_tokens=len(tokenizer("下面是人和聊天机器人的对话。")['input_ids']),
                                tokenizer_name_or_path='./bloom-1b4-zh')
    model = get_peft_model(model,config)
    """,
    "L72": """
    from peft import PromptEncoderConfig,TaskType,PromptTuningInit,get_peft_model,PromptEncoderReparameterizationType
    config = PromptEncoderConfig(task_type=TaskType.CAUSAL_LM,num_virtual_tokens=10,
                                 encoder_reparameterization_type=PromptEncoderReparameterizationType.LSTM,
                                 encoder_dropout=0.1,encoder_num_layers=2,encoder_hidden_size=1024)
    model = get_peft_model(model,config)
    model.print_trainable_parameters()
    """,
    "L88": """
    from peft import PrefixTuningConfig,get_peft_model,TaskType
    config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM,num_virtual_tokens=10,prefix_projection=True)
    model = get_peft_model(model,config)
    model.print_trainable_parameters()
    """,
    "L111": """
    from peft import  LoraConfig,TaskType,get_peft_model
    for name,parmeters in model.named_parameters():
        print(name)
    config  =LoraConfig(task_type=TaskType.CAUSAL_LM,
                        r=8,
                        #target_modules=["query_key_value","dense_4h_to_h"],
                       # modules_to_save=["word_embeddings"]
                        )
    model.print_trainable_parameters()
    """,
    "L128": """
    model = AutoModelForCausalLM.from_pretrained('./bloom-1b4-zh',low_cpu_mem_usage=True)
    peft_model = PeftModel.from_pretrained(model=model,model_id='./Lora/checkpoint-100')
    merge_model = peft_model.merge_and_unload()
    merge_model.save_pretrained('./merge_model')
    """,
    "L149": """
    from peft import IA3Config,TaskType,get_peft_model
    config = IA3Config(task_type=TaskType.CAUSAL_LM,
                       target_modules = ['query_key_value'],
                       feedforward_modules =['mlp.dense_4h_to_h'])
    """,
}


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        ("L24", "AutoModelForCausalLM"),
        ("L46", "tokenizer"),
        ("L72", "model"),
        ("L88", "model"),
        ("L111", "model"),
        ("L128", "AutoModelForCausalLM"),
    ],
)
def test_alone_a_block_lacks_what_none_before_it_gives(block: str, missing: str):
    with pytest.raises(NameError, match=f"'{missing}' is not defined"):
        Notebook("minipeft").run(BLOCKS[block])


def test_001_L24_the_loop_of_bitfit_counts_what_bitfit_trains(notebook: Open):
    names = notebook().run(BLOCKS["L24"])
    model = minipeft.get_peft_model(tiny("bloom"), minipeft.BitFitConfig())
    assert model.get_nb_trainable_parameters()[0] == names["num_param"]
    # on Llama the loop finds nothing and says nothing, and on T5 tables that are no biases
    for kind, found in (("llama", 0), ("t5", 2)):
        assert sum("bias" in name for name, _ in tiny(kind).named_parameters()) == found
        with pytest.raises(TargetError, match="has no biases"):
            minipeft.get_peft_model(tiny(kind), minipeft.BitFitConfig())


def test_001_L46_a_prompt_from_a_text_starts_as_the_text_and_is_trained(
    notebook: Open, library: str
):
    names = notebook(library, model=tiny("bloom"), tokenizer=tokenizer()).run(BLOCKS["L46"])
    model, ids = names["model"].eval(), torch.tensor([tokenizer()(TEXT)["input_ids"]])
    assert names["config"].num_virtual_tokens == len(TEXT) == 14
    batch = inputs("bloom")
    hard = torch.cat([ids.expand(2, -1), batch["input_ids"]], dim=1)
    with torch.no_grad():
        expected = tiny("bloom")(input_ids=hard).logits[:, -7:]
    assert torch.allclose(output(model, "bloom")[:, -7:], expected, atol=1e-5)  # measured 0
    # "a hard prompt" (001:L44) it is not: it is trained like any other
    model(**batch).loss.backward()
    (prompt,) = [p for p in model.parameters() if p.requires_grad]
    assert prompt.shape == (14, 16)
    assert prompt.grad.abs().max() > 0


def test_001_L49_a_soft_prompt(notebook: Open, library: str, capsys: pytest.CaptureFixture[str]):
    notebook(library, model=tiny("bloom")).run(BLOCKS["L49"])
    assert last(capsys) == line(10 * 16, size(tiny("bloom")) + 10 * 16)


def test_001_L72_p_tuning(notebook: Open, library: str, capsys: pytest.CaptureFixture[str]):
    model = notebook(library, model=tiny("bloom")).run(BLOCKS["L72"])["model"]
    d, h = 16, 1024
    lstm = 2 * 4 * h * (d + h + 2) + 2 * 4 * h * (2 * h + h + 2)  # both ways; bias twice
    both = 10 * d + lstm + 2 * h * (2 * h + 1) + d * (2 * h + 1)
    assert last(capsys) == line(both, size(tiny("bloom")) + both)
    assert output(model, "bloom").shape[:2] == (2, 10 + 7)


def test_001_L88_prefix_with_a_projection(
    notebook: Open, library: str, capsys: pytest.CaptureFixture[str]
):
    model = notebook(library, model=tiny("bloom")).run(BLOCKS["L88"])["model"]
    # "two more MLP layers" (001:L86): one MLP of two linear layers, to K and V of two layers
    n = 10 * 16 + (16 * 16 + 16) + (16 + 1) * 2 * 2 * 16
    assert last(capsys) == line(n, size(tiny("bloom")) + n)
    before = output(tiny("bloom"), "bloom")
    assert not torch.allclose(output(model.eval(), "bloom"), before, atol=1e-2)
    batch = {key: inputs("bloom")[key] for key in ("input_ids", "attention_mask")}
    assert model.generate(**batch, max_new_tokens=3, do_sample=False).shape == (2, 10)


def test_001_in_order_the_cells_wrap_what_is_wrapped_already(notebook: Open):
    cells = notebook(model=tiny("bloom"), tokenizer=tokenizer())
    cells.run(BLOCKS["L46"])
    for block in (BLOCKS["L72"], BLOCKS["L88"]):
        with pytest.raises(StateError, match=r"has adapters already.* plain model back.*unload"):
            cells.run(block)


def test_001_L111_the_config_is_never_used(
    notebook: Open, library: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(AttributeError, match="print_trainable_parameters"):
        notebook(library, model=tiny("bloom")).run(BLOCKS["L111"])
    use = ("model.print", "model = get_peft_model(model, config)\nmodel.print")
    names = notebook(library, model=tiny("bloom")).run(BLOCKS["L111"], use)
    assert last(capsys) == line(R8, size(tiny("bloom")) + R8)
    assert list(names["model"].peft_config["default"].target_modules) == ["query_key_value"]
    # with its two commented lines
    more = [("#target_modules", "target_modules"), ("# modules_to_save", "modules_to_save")]
    names = notebook(library, model=tiny("bloom")).run(BLOCKS["L111"], use, *more)
    model, extra = names["model"], 2 * 8 * (64 + 16)  # dense_4h_to_h is (64, 16)
    assert model.get_nb_trainable_parameters()[0] == R8 + extra + 48 * 16
    # "directly on the original" (001:L109): on a copy; lm_head keeps the original, frozen
    (copy,) = [p for n, p in model.named_parameters() if "word_emb" in n and p.requires_grad]
    head = model.get_base_model().lm_head.weight
    assert not head.requires_grad
    assert copy is not head
    assert torch.equal(copy, head)


def test_001_L128_merging_for_good(notebook: Open, library: str):
    names = notebook(library, PeftModel=__import__(library).PeftModel).run(BLOCKS["L128"])
    again = AutoModelForCausalLM.from_pretrained("./merge_model")
    adapter = minipeft.PeftModel.from_pretrained(tiny("bloom"), "./Lora/checkpoint-100")
    expected = output(adapter, "bloom")
    assert not torch.allclose(output(tiny("bloom"), "bloom"), expected, atol=1e-2)
    for model in (names["merge_model"], again.eval()):
        assert torch.allclose(output(model, "bloom"), expected, atol=1e-5)  # measured 1.4e-6
    assert size(again) == size(tiny("bloom"))


def test_001_L149_ia3(notebook: Open, library: str):
    count = 2 * (3 * 16 + 4 * 16)  # Q, K and V in one, 3d, and the feed-forward's input, 4d
    block, module = BLOCKS["L149"], __import__(library)
    if library == "peft":  # it demands the same string in both lists
        with pytest.raises(ValueError, match="should be a subset"):
            notebook(library).run(block)
        edits = [("['query_key_value']", "['query_key_value', 'mlp.dense_4h_to_h']")]
    else:  # ours joins them
        edits = []
    config = notebook(library).run(block, *edits)["config"]
    model = module.get_peft_model(tiny("bloom"), config)
    assert model.get_nb_trainable_parameters()[0] == count
    assert torch.equal(output(model.eval(), "bloom"), output(tiny("bloom"), "bloom"))

"""load_base: the bundled models, a folder, and errors that say what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from minipeft.checks.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ConfigTypeError,
    MinipeftError,
)
from minipeft.lab.assets.pretrain import NAMES
from minipeft.lab.assets.stories import vocabulary
from minipeft.lab.zoo import ASSETS, BUNDLED, load_base, load_classifier

CLASSES = {"tiny-gpt2": "GPT2LMHeadModel", "tiny-bloom": "BloomForCausalLM"}


@pytest.mark.parametrize("name", NAMES)
def test_bundled_models_are_ordinary_transformers_models(name):
    model, tokenizer = load_base(name)
    assert type(model).__name__ == CLASSES[name]
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0.8e6 < model.num_parameters() < 1.2e6
    assert len(tokenizer) == model.config.vocab_size == 128
    dims = {d for p in model.parameters() for d in p.shape}
    assert all(d % 64 == 0 for d in dims)  # NF4 reads blocks of 64


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_knows_every_word_pads_and_comes_back_to_the_text(name):
    _, tokenizer = load_base(name)
    ids = tokenizer(" ".join(vocabulary()))["input_ids"]
    assert len(set(ids)) == len(vocabulary()) == 125
    assert tokenizer.unk_token_id not in ids
    assert tokenizer("mia xylophone")["input_ids"][1] == tokenizer.unk_token_id
    text = "where was mia ? mia was in rome ."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3
    rows = ["mia laughed .", "tom had a red ball ."]
    right = tokenizer(rows, padding=True, return_tensors="pt")
    assert right["attention_mask"][0].tolist() == [1, 1, 1, 0, 0, 0]
    tokenizer.padding_side = "left"
    left = tokenizer(rows, padding=True, return_tensors="pt")
    assert left["attention_mask"][0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_generate_works_and_left_padding_changes_nothing(name):
    model, tokenizer = load_base(name)
    tokenizer.padding_side = "left"
    prompts = ["mia was in rome . where was mia ?", "tom laughed . how did tom feel ?"]
    both = tokenizer(prompts, padding=True, return_tensors="pt")
    out = model.generate(**both, max_new_tokens=5, do_sample=False)
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    assert texts[0].startswith(f"{prompts[0]} mia was in rome .")
    assert texts[1].startswith(f"{prompts[1]} tom felt happy .")


def test_dtype_device_and_a_folder(tmp_path):
    model, tokenizer = load_base("tiny-gpt2", dtype=torch.float16, device="cpu")
    assert model.dtype == torch.float16
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for folder in (tmp_path, str(tmp_path)):
        again, _ = load_base(folder)
        assert again.dtype == torch.float32
        assert torch.equal(again.lm_head.weight, model.lm_head.weight.float())


def test_the_two_bundled_models_are_small_on_disk():
    size = sum(f.stat().st_size for name in BUNDLED for f in (ASSETS / name).iterdir())
    assert size < 9.5e6


def test_a_hub_name_without_a_network_says_what_to_do():
    with pytest.raises(CheckpointNotFoundError) as caught:
        load_base("nobody/no-such-model")
    for part in ("nobody/no-such-model", "tiny-gpt2", "tiny-bloom", "download", "HF_HUB_OFFLINE"):
        assert part in str(caught.value)
    assert isinstance(caught.value, MinipeftError)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_base(tmp_path)


def test_wrong_types_are_named():
    with pytest.raises(ConfigTypeError, match="got int"):
        load_base(3)
    with pytest.raises(ConfigTypeError, match="dtype"):
        load_base("tiny-gpt2", dtype="float16")


@pytest.mark.slow
def test_importing_is_light():
    code = (
        "import sys, minipeft.lab.zoo, minipeft.lab.tasks, minipeft.lab.training;"
        "import minipeft.lab.assets.pretrain;"
        "print([m for m in ('transformers', 'datasets', 'tokenizers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_tiny_llama_reads_any_english():
    model, tokenizer = load_base("tiny-llama")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert 1.9e6 < model.num_parameters() < 2.1e6
    text = "If the file does not exist, a “new” one is made; see os.open()."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids = tokenizer("If the file does not exist, it is made.", return_tensors="pt")["input_ids"]
    # far better than chance: log 1024 is 6.9 nats per token
    assert model(input_ids=ids, labels=ids).loss < 4
    chat = [{"role": "user", "content": "A list?"}, {"role": "assistant", "content": "Yes."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "User: A list?\nAnswer: Yes.<eos>\n"
    )


@pytest.mark.parametrize("name", BUNDLED)
def test_a_classifier_has_a_new_head_from_its_seed_and_reads_past_padding(name):
    model, tokenizer = load_classifier(name, ["yes", "no", "perhaps"], seed=3)
    again, _ = load_classifier(name, ["yes", "no", "perhaps"], seed=3)
    other, _ = load_classifier(name, ["yes", "no", "perhaps"], seed=4)
    assert torch.equal(model.score.weight, again.score.weight)
    assert not torch.equal(model.score.weight, other.score.weight)
    assert model.config.id2label == {0: "yes", 1: "no", 2: "perhaps"}
    texts = ["mia was in rome .", "tom laughed"]
    both = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        alone = torch.cat([model(**tokenizer(t, return_tensors="pt")).logits for t in texts])
        # float32 sums over rows of another length
        torch.testing.assert_close(model(**both).logits, alone, rtol=1e-4, atol=1e-5)
    for labels in (["one"], ["a", "a"]):
        with pytest.raises(MinipeftError, match="two or more different names"):
            load_classifier(name, labels)

"""The exercises of lesson 16: choose, predict, prepare a batch, mend a call, and hand in."""

from __future__ import annotations

from ..exercise import Exercise
from . import _capstone as tests
from . import _capstone_adapter as grader

LESSON = "16_capstone"
TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

CHOOSE = """\
answer = {{
    "capstone": {},
    "keyring": {},
    "apart": {},
    "postcard": {},
    "gpt2": {},
}}"""

RANK = '''\
def largest_rank(layers, limit, header):
    """[(in, out), ...], bytes, bytes -> the largest r whose file has at most `limit` bytes."""
{body}
'''
RANK_BODY = """\
    each = 4 * sum(inn + out for inn, out in layers)  # bytes for one more rank
    return max(0, (limit - 8 - header) // each)"""

LOOK_AT = "from transformers import TrainingArguments\n\n"  # the task says: TrainingArguments?
AS_WRITTEN = f"""\
{LOOK_AT}as_written = {{
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-4,
    "warmup_ratio": 0.03,
    "lr_scheduler_type": "cosine",
    "logging_steps": 10,
    "save_strategy": "epoch",
    "fp16": True,
    "optim": "paged_adamw_8bit",
    "group_by_length": True,
}}
trainer_options = {{"dataset_text_field": "text", "max_seq_length": 2048}}
"""
MENDED = """\
training = {**as_written, "warmup_steps": 0.03, "train_sampling_strategy": "group_by_length"}
del training["warmup_ratio"], training["group_by_length"]
answer = {"training": training, "data": {"dataset_text_field": "text", "max_length": 2048}}
"""
NOT_MENDED = """\
# YOUR TURN: {"training": {...}, "data": {...}}, with today's names
answer = None
"""

DESIGN = """\
import torch

from minipeft import LoraConfig, get_peft_model
from minipeft.lab.tasks import load_task
from minipeft.lab.training import fit
from minipeft.lab.zoo import load_base

MODEL, TASK = "tiny-gpt2", "mood"
data = load_task(TASK)
base, tokenizer = load_base(MODEL)
torch.manual_seed(0)
{turn}
"""
TRAINED = """\
model = get_peft_model(base, LoraConfig(r=2, lora_alpha=8, target_modules="all-linear"))
fit(model, tokenizer, data["train"], steps=40, lr=1e-2, batch_size=16, progress=False)
model.save_pretrained("my-adapter")
answer = {"folder": "my-adapter", "task": TASK, "base": MODEL}"""
NOT_TRAINED = """\
# YOUR TURN: a task, a method, a recipe; train, save, and say where the adapter is.
answer = None  # {"folder": "my-adapter", "task": TASK, "base": MODEL}"""

EXERCISES = [
    Exercise(
        id="capstone.choose",
        lesson=LESSON,
        title="Choose a method for a budget",
        task="""\
Six designs: `"lora-8"` and `"lora-2"` (LoRA of that rank on all four linear layers of each block),
`"ia3"`, `"bitfit"` (all biases), `"adapter-8"` (bottleneck 8, two in each block), `"prompt-10"`
(ten virtual tokens). Five jobs; each says how many bytes the numbers may take in float32 (the
header left out), and whether the adapter must be folded into the weights:

| job | base | bytes, less than | must fold |
|---|---|---:|---|
| `"capstone"` | tiny-gpt2: d = 128, 5 blocks | 100,000 | yes |
| `"keyring"` | tiny-gpt2 | 25,000 | yes |
| `"apart"` | tiny-gpt2 | 100,000 | no |
| `"postcard"` | tiny-gpt2 | 6,000 | no |
| `"gpt2"` | GPT-2: d = 768, 12 blocks | 100,000 | yes |

For each job name the allowed design that trains the most numbers, or `"none"`. A block has layers
from d to 3d, d to d, d to 4d and 4d to d, a bias on each, and two LayerNorms with a bias of d;
after the last block there is one more LayerNorm.
""",
        hints=(
            "How many bytes does one number take, and which designs are no change of a matrix?",
            "LoRA r · Σ(in + out) = r · 16d a block; IA³ 3d + 4d; biases 11d, and d at the end; an "
            "adapter 2dm + m + d, twice a block; a prompt v · d. A nonlinear module or virtual "
            "tokens cannot be folded.",
            '`{"capstone": "lora-2", "keyring": "ia3", "apart": ..., ...}`; GPT-2 is 6 times as '
            "wide and has 12 blocks.",
        ),
        check=tests.choose,
        starter="answer = None  # YOUR TURN: {job: design}, five of them",
        solution=CHOOSE.format('"lora-2"', '"ia3"', '"adapter-8"', '"prompt-10"', '"none"'),
        answer="answer",
    ),
    Exercise(
        id="capstone.rank",
        lesson=LESSON,
        title="The file's size, before it is there",
        task="""\
A LoRA of rank r beside `layers`, a list of (in, out), is saved in float32. The file has 8 bytes,
then `header` bytes, then the numbers. Return the largest r whose file has at most `limit` bytes, as
an int; 0 where not even r = 1 fits. (The header names tensors and shapes; it is the same for all r
of one digit.)
""",
        hints=(
            "By how many bytes does the file grow when r grows by one?",
            "8 + H + 4 · r · Σ(in + out) ≤ limit, solved for r.",
            "`(limit - 8 - header) // (4 * sum(...))`, and not below 0.",
        ),
        check=tests.largest_rank,
        starter=RANK.format(body=TURN),
        solution=RANK.format(body=RANK_BODY),
        answer="largest_rank",
    ),
    Exercise(
        id="capstone.collate",
        lesson=LESSON,
        title="A batch with labels",
        target="minipeft.lab.training:collate",
        task="""\
Note 002 (line 159) hands a Trainer rows without labels; it stops with *The model did not return a
loss*. And rows of different lengths are no tensor. Write what is missing: `pairs` holds the token
ids of prompts and completions, each completion closed by eos. Return `input_ids`, `attention_mask`
and `labels`, each (batch, time), int64, padded on the right. The loss counts the completions and
their eos; -100 leaves a position out. Beware: `tokenizer.pad_token_id` may be the id of eos.
""",
        hints=(
            "Which of a row's tokens shall the model learn to write? Where do you know it from, if "
            "padding and eos have the same id?",
            "time = the longest prompt + completion; with p prompt tokens, c of the completion and "
            "k = time - p - c: mask [1]·(p + c) + [0]·k, labels [-100]·p + completion + [-100]·k.",
            '`batch["labels"].append([-100] * len(prompt) + completion + [-100] * rest)`, the '
            "other two likewise, then `torch.tensor(..., device=device)` of each.",
        ),
        check=tests.collated,
    ),
    Exercise(
        id="capstone.notes_call",
        lesson=LESSON,
        title="Mend the notes' configuration",
        task="""\
Note 003 (from line 428) hands these options to `TrainingArguments`, and two more to `SFTTrainer`.
Today (transformers 5.23, trl 1.16) four of the names are gone. Give all options their names of
today, meanings and values kept: `training` for `TrainingArguments`, `data` for the two that are
about the text, which trl's `SFTConfig` takes. `TrainingArguments?` shows what there is.
""",
        hints=(
            "Which names does TrainingArguments refuse, one after the other?",
            "A share of the steps: warmup_steps takes a float below 1. Rows of like length "
            "together: train_sampling_strategy. The text's length: max_length.",
            'Drop `"warmup_ratio"` and `"group_by_length"`; `"warmup_steps": 0.03`, '
            '`"train_sampling_strategy": "group_by_length"`; and '
            '`"data": {"dataset_text_field": "text", "max_length": 2048}`.',
        ),
        check=tests.notes_call,
        starter=f"{AS_WRITTEN}\n{NOT_MENDED}",
        solution=f"{AS_WRITTEN}\n{MENDED}".removeprefix(LOOK_AT),
        answer="answer",
    ),
    Exercise(
        id="capstone.adapter",
        lesson=LESSON,
        title="Hand in",
        task="""\
Design a fine-tune of your own, train it, and hand in its folder. The check draws 200 rows with a
seed of this moment and loads the base and your adapter from disk. It says *right* if

- the adapter was made for the base you name, and its `adapter_model.safetensors` has less than
  100,000 bytes;
- it can be folded into the weights, and merged it gives the same logits;
- at least 30 points more of the 200 rows are right than with the base alone.

Train on `load_task(TASK)` (its seed is 0), with at most 500 steps of 16 rows. `"mood"` is easy,
`"where"` and `"style"` take longer, `"opposite"` is hard. The check takes a few seconds.
""",
        hints=(
            "Which of the lesson's designs fold, and which of those fit into 100,000 bytes?",
            "LoRA with r = 2 on all linear layers is 4 · 20,480 bytes and a header of 4,864. Its "
            "learning rate in the lesson was chosen on the validation split.",
            '`model = get_peft_model(base, LoraConfig(r=2, lora_alpha=8, target_modules="all-'
            'linear"))`, `fit(model, tokenizer, data["train"], steps=..., lr=1e-2, batch_size=16)`,'
            ' `model.save_pretrained("my-adapter")`, and the dictionary.',
        ),
        check=grader.adapter,
        starter=DESIGN.format(turn=NOT_TRAINED),
        solution=DESIGN.format(turn=TRAINED),
        answer="answer",
        live=True,
    ),
]

"""The notes on trial: cells of theirs that do not run, or do not do what they say.

They belong to several lessons, and come last in each.
"""

from __future__ import annotations

from ..exercise import Exercise
from . import _trial as checks
from . import _trial_code as code
from . import _trial_more as more

EXERCISES = [
    Exercise(
        id="trial.embeddings",
        lesson="05_prompt_tuning",
        title="Find the bug in the notes: `base_model.embeddings`",
        task="""\
Note 003 embeds the text by `self.base_model.embeddings(input_ids)` (line 328). GPT-2, Bloom and
Llama have no `embeddings`; BERT has, but that module also adds positions and normalises, and
`model(inputs_embeds=...)` then does both once more.

Mend `embed`, for every model of transformers: (batch, t) ids in, (batch, t, d) out, the rows of the
word embedding and nothing else.
""",
        hints=(
            "Which call gives a model's word embedding, whatever the model calls it?",
            "`model.get_input_embeddings()` is a module, ids (batch, t) -> vectors (batch, t, d).",
            "Call what it returns: `model.get_input_embeddings()(...)`.",
        ),
        check=checks.embeddings,
        starter=code.EMBED.format(body=code.MEND + code.EMBED_BUG),
        solution=code.EMBED.format(body=code.EMBED_MENDED),
        answer="embed",
    ),
    Exercise(
        id="trial.fresh",
        lesson="05_prompt_tuning",
        title="Find the bug in the notes: one model, three methods",
        task="""\
Note 001 wraps `model` for prompt tuning (line 58), the result for P-tuning (line 78), and that one
for prefix tuning (line 91). Each method then stands on all before it. This function is those cells
as a loop: `load()` gives the pretrained model, `wrap(model, config)` changes the model it is given
and returns the adapted one.

Mend it: each config gets a pretrained model that no other method has touched.
""",
        hints=(
            "After the first turn of the loop, what is `model`?",
            "`wrap` changes what it is given, so one base for all is not enough either: n configs "
            "need n bases.",
            "Call `load()` inside the loop, once for each config.",
        ),
        check=checks.fresh,
        starter=code.FRESH.format(body=code.MEND + code.FRESH_BUG),
        solution=code.FRESH.format(body=code.FRESH_MENDED),
        answer="adapted",
    ),
    Exercise(
        id="trial.wrap",
        lesson="08_lora",
        title="Find the bugs in the notes: a config alone",
        task="""\
Note 000 makes a config by `peft.LoraConfig` and never imports `peft` (line 19). Note 001 makes a
config too, and goes on to ask the model what it trains (line 123), without ever having handed it
the config: all of the model trains, as before.

Mend both faults. `model.seq` is an `nn.Sequential` whose entries 0, 2 and 4 are linear layers.
minipeft takes the place of peft.
""",
        hints=(
            "A config is a note of what you want. Who reads it?",
            "Two names are needed, the config's class and the function that puts a config to work: "
            "`from minipeft import ...`.",
            "`return get_peft_model(model, config)`, with `from minipeft import LoraConfig, "
            "get_peft_model` above.",
        ),
        check=checks.wrap,
        starter=code.WRAP.format(imports="", body=code.MEND + code.WRAP_BUG),
        solution=code.WRAP.format(imports=code.WRAP_IMPORTS, body=code.WRAP_MENDED),
        answer="adapt",
    ),
    Exercise(
        id="trial.half",
        lesson="08_lora",
        title="Find the bug in the notes: a base in 16 bits",
        task="""\
The notes call their `LoRALinear` complete. Beside a layer in bfloat16 it raises RuntimeError: x is
bfloat16, A and B are float32.

Mend `forward`. A and B stay in 32 bits, since their steps are smaller than 16 bits can tell, and
the update is computed in 32 bits. The frozen layer stays as it is, and the output has its dtype.
""",
        hints=(
            "Which of x, A and B may change its dtype on the way, so that nothing is lost?",
            "x (16) -> x (32) -> s · x Aᵀ Bᵀ (32); base_output (16) + update (32) is 32 bits: back "
            "to base_output's dtype.",
            "`x.to(self.lora_A.dtype)` for the update only, and `.to(base_output.dtype)` on the "
            "sum.",
        ),
        check=more.half,
        starter=code.HALF.format(body=code.HALF_BUG),
        solution=code.HALF.format(body=code.HALF_MENDED),
        answer="HalfLoRALinear",
    ),
    Exercise(
        id="trial.dots",
        lesson="09_lora_family",
        title="Find the bug in the notes: three dots",
        task="""\
Note 000 writes `...` for "and the rest" (lines 63, 70, 83, 100). To a reader that is clear; to
Python `...` is an object. Behind an option it is a SyntaxError, and in front it is taken for the
first argument, the task type.

Give the four configs, with the options of `given` in the place of the dots. Where the note names
its own `target_modules`, that one counts.
""",
        hints=(
            "How do the entries of a dictionary become named arguments?",
            "`LoraConfig(use_dora=True, **given)`. A name may be given once only: for the last, "
            "`given` must lose its `target_modules` first, or be overwritten.",
            '`{**given, "target_modules": "all-linear"}` is a dictionary in which the second wins.',
        ),
        check=more.dots,
        starter=code.DOTS.format(turn=code.DOTS_BUG),
        solution=code.DOTS.format(turn=code.DOTS_MENDED),
        answer="configs",
    ),
    Exercise(
        id="trial.imports",
        lesson="13_merge_swap_share",
        title="Find the bugs in the notes: what these cells lack",
        task="""\
In a new kernel each of these cells ends in a NameError. For each, give the import lines that must
stand before it, as one string: `"import this"`, several lines with `\\n` between them. Change
nothing in the cells, and import nothing that they do not use. The library is Hugging Face's `peft`,
or `minipeft`.
""",
        hints=(
            "Go through each cell: which names does it use that it neither makes nor imports?",
            "000 uses a *module* by its name; 001 uses two classes, each from another library; 003 "
            "imports its classes, but takes a dtype from somewhere.",
            "One line, two lines, one line: `import ...`; `from transformers import ...` and "
            "`from peft import ...`; `import ...`.",
        ),
        check=more.needed,
        starter=code.IMPORTS.format(turn=code.IMPORTS_BUG),
        solution=code.IMPORTS.format(turn=code.IMPORTS_MENDED),
        answer="before",
    ),
]

"""The exercises of lesson 15: follow a call, replace, switch, name, hold, and predict."""

from __future__ import annotations

from ..exercise import Exercise
from . import _inside_peft as checks
from . import _inside_peft_code as code
from . import _inside_peft_names as names

LESSON = "15_inside_peft"
EXERCISES = [
    Exercise(
        id="inside_peft.follow",
        lesson=LESSON,
        title="Follow a call",
        task="""\
Write the counter that the lesson used, in a small form. `follow(folder, run)` runs `run()` and
returns `{name: calls}` for the functions whose file name begins with `folder`.

`sys.setprofile(f)` makes Python call `f(frame, event, argument)`; the event is `"call"` when a
Python function begins. `frame.f_code.co_filename` and `frame.f_code.co_name` say which one.
Whatever happens, the profile function that was set before is set again afterwards, and an error of
`run` comes out.
""",
        hints=(
            "A profile function is also told of returns and of C functions. Which event do you "
            "count? And what must be done even if `run()` raises?",
            "before = sys.getprofile(); set yours; run in try; in finally set `before` again.",
            'In `watch`: `if event == "call" and frame.f_code.co_filename.startswith(folder):` '
            "`calls[name] = calls.get(name, 0) + 1`.",
        ),
        check=checks.follow,
        starter=code.FOLLOW.format(body=code.TURN),
        solution=code.FOLLOW.format(body=code.FOLLOW_BODY),
        answer="follow",
    ),
    Exercise(
        id="inside_peft.replace",
        lesson=LESSON,
        title="Put the wrappers into the model",
        target="minipeft.tuner.attach:LayerModel._replace",
        task="""\
`new` is `{layer: wrapper}`. Put `new[layer]` wherever `layer` stands in `self.model`. The wrapper
already holds the layer: there it must stay. A layer can stand in several places, even twice in one
parent; the wrapper then stands in all of them. Called with `{wrapper: layer}`, the same function
takes the wrappers out again.
""",
        hints=(
            "`named_children` and `modules` give each module once. Where does a parent keep *all* "
            "names of its children?",
            "for each parent in self.model.modules() that is not itself one of new.values(): for "
            "each (name, child) of parent._modules: if child is in new, put new[child] there.",
            "`for parent in [m for m in self.model.modules() if m not in new.values()]:` and "
            "inside `for name, child in parent._modules.items(): ...`; list the parents first.",
        ),
        check=checks.replace,
    ),
    Exercise(
        id="inside_peft.activate",
        lesson=LESSON,
        title="Switch adapters",
        target="minipeft.tuner.slots:Slot.activate",
        task="""\
`self.adapters` is an `nn.ModuleDict`: the adapters that stand at this layer, by name. Not every
adapter of the model stands at every layer. Set `self.active` to the tuple of those of `names` that
stand here, in the order of `names`; train the adapters in `trained`, and freeze all others.
""",
        hints=(
            "What is left of the last switch, if you only add to it?",
            "active = those of names in self.adapters. For every (name, adapter): requires_grad is "
            "(name in trained).",
            "`self.active = tuple(name for name in names if ...)`, then "
            "`adapter.requires_grad_(name in trained)` for each.",
        ),
        check=checks.activate,
    ),
    Exercise(
        id="inside_peft.on_disk",
        lesson=LESSON,
        title="From a name in memory to a name on disk",
        task="""\
In a peft model an adapter's matrix is called
`base_model.model.h.0.attn.lora_A.default.weight`. In the file the adapter's name, here `default`,
is left out: `base_model.model.h.0.attn.lora_A.weight`. Write this for any adapter name without a
dot, such as `"attn"` or `"0"`, and for lora_A and lora_B. A name without an adapter in it, as of a
frozen weight, stays as it is.
""",
        hints=(
            'What does `name.replace(".attn", "")` do to `h.0.attn.lora_A.attn.weight`?',
            "The adapter's name is the part between `.lora_A.` (or `.lora_B.`) and `.weight`.",
            'For "lora_A" and "lora_B": `name.replace(f".{matrix}.{adapter}.", f".{matrix}.")`.',
        ),
        check=names.on_disk,
        starter=code.ON_DISK.format(body=code.TURN),
        solution=code.ON_DISK.format(body=code.ON_DISK_BODY),
        answer="on_disk",
    ),
    Exercise(
        id="inside_peft.subclass",
        lesson=LESSON,
        title="Find the bug: a layer that is a Linear",
        task="""\
Note 004 draws `Linear(nn.Linear, LoraLayer)`: the adapted layer *is* a Linear. This class is
written so. It computes the right thing, but the output layer of many models shares its weight with
the embedding, and after this class has taken its place it no longer does. And a layer of another
kind, with a forward of its own, loses that.

Mend it as both libraries do today: hold the layer that is given. Its parameters are frozen, A and
B are trained, and the arguments stay as they are.
""",
        hints=(
            "How many weights are in memory after `self.load_state_dict(layer.state_dict())`?",
            "An nn.Module that holds `layer` as it is: y = layer(x) + s · B A x.",
            "`class LoraLinear(nn.Module)`, `super().__init__()`, "
            "`self.base_layer = layer.requires_grad_(False)`, and `self.base_layer(x) + ...`.",
        ),
        check=names.subclass,
        starter=code.SUBCLASS.format(parent="nn.Linear", init=code.BUG, forward=code.BUG_FORWARD),
        solution=code.SUBCLASS.format(
            parent="nn.Module", init=code.MENDED, forward=code.MENDED_FORWARD
        ),
        answer="LoraLinear",
    ),
    Exercise(
        id="inside_peft.predict_layers",
        lesson=LESSON,
        title="Predict what a pattern means",
        task="How many layers of GPT-2 does each of these `target_modules` wrap, in peft and here?",
        hints=(
            "Which of them are strings, and which are lists?",
            "string: re.fullmatch on the whole name. list: the whole name, or an ending after a "
            "dot. all-linear: every linear layer but the output layer.",
            'a: two in each of 12 blocks. c: "h.1" followed by anything: blocks 1, 10 and ... . '
            'd: does "11.mlp.c_proj" end in ".1.mlp.c_proj"?',
        ),
        check=names.predict_layers,
        starter=code.PREDICT.format(turn='answer = None  # YOUR TURN: {"a": ..., "b": ..., ...}'),
        solution=code.PREDICT.format(turn=code.PREDICTED),
        answer="answer",
    ),
    Exercise(
        id="inside_peft.predict_counts",
        lesson=LESSON,
        title="Predict two adapters' counts",
        task="""\
GPT-2 has 124,439,808 parameters and 12 blocks of width 768, with the linear layers `attn.c_attn`
(768 to 2304), `attn.c_proj` (768 to 768), `mlp.c_fc` (768 to 3072) and `mlp.c_proj` (3072 to 768).

The adapter `"default"` has r = 8 on `["c_attn"]`, which is 294,912. Then comes
`model.add_adapter("second", LoraConfig(r=4, target_modules=["c_attn", "c_proj"]))`, and
`model.set_adapter("second")`. What does `model.get_nb_trainable_parameters()` return?
""",
        hints=(
            "Which layers does `c_proj` mean? And which adapters are in memory?",
            "trainable = 12 · 4 · Σ (in + out) over the three layers of 'second'; all = GPT-2 + "
            "both adapters.",
            "`second = 12 * 4 * ((768 + 2304) + (768 + 768) + ...)`, "
            "`answer = (second, 124_439_808 + 294_912 + ...)`",
        ),
        check=checks.predict_counts,
        starter="answer = None  # YOUR TURN: (trainable, all)",
        solution="second = 12 * 4 * ((768 + 2304) + (768 + 768) + (3072 + 768))\n"
        "answer = (second, 124_439_808 + 294_912 + second)",
        answer="answer",
    ),
]

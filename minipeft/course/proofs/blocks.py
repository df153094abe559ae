"""The notes' cells as they stand: what each needs and does not have, and what it leaves out."""

from __future__ import annotations

import ast
import builtins
import textwrap
from typing import Any

import torch
from torch import nn

from ... import LoraConfig, get_peft_model
from ...checks.errors import MinipeftError
from ...lab.counting import meta_model
from ...methods.lora import scaling
from ..claims import hold, proves
from .lora import NotesLoRALinear

# By the line where it is fenced; comments left out, long values shortened.
L17 = """
    config = peft.LoraConfig(
        r=8, target_modules=["seq.0", "seq.2"], modules_to_save=["seq.4"],
    )"""
L24 = """
    model = AutoModelForCausalLM.from_pretrained("./bloom-1b4-zh", low_cpu_mem_usage=True)"""
L46 = """
    from peft import get_peft_model,PromptTuningConfig,PromptTuningInit,TaskType
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM,
        prompt_tuning_init=PromptTuningInit.TEXT, prompt_tuning_init_text="...",
        num_virtual_tokens=len(tokenizer("...")['input_ids']),
        tokenizer_name_or_path='./bloom-1b4-zh')
    model = get_peft_model(model,config)"""
L111 = """
    from peft import  LoraConfig,TaskType,get_peft_model
    for name,parmeters in model.named_parameters():
        print(name)
    config  =LoraConfig(task_type=TaskType.CAUSAL_LM, r=8)
    model.print_trainable_parameters()"""
L128 = """
    model = AutoModelForCausalLM.from_pretrained('./bloom-1b4-zh',low_cpu_mem_usage=True)
    peft_model = PeftModel.from_pretrained(model=model,model_id='./Lora/checkpoint-100')
    merge_model = peft_model.merge_and_unload()
    merge_model.save_pretrained('./merge_model')"""
L126 = """
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(
        "meta-llama/Llama-2-7b-hf", torch_dtype=torch.float16, device_map="auto"
    )"""
L180 = """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    bnb_config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)"""
L460 = """
    base_model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
    from peft import PeftModel
    model = PeftModel.from_pretrained(base_model, "./lora_weights")"""


def missing(block: str) -> list[str]:
    """The names a block loads before it binds them, in order: each is a NameError in a new kernel.

    Python evaluates a statement's right side before it binds the left, and so does this.
    """
    bound = set(dir(builtins))
    found: list[str] = []
    for statement in ast.parse(textwrap.dedent(block)).body:
        nodes = list(ast.walk(statement))
        names = [n for n in nodes if isinstance(n, ast.Name)]
        here = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        inside = here if isinstance(statement, ast.For) else set()  # the loop's own variables
        for node in names:
            if isinstance(node.ctx, ast.Load) and node.id not in bound | inside | set(found):
                found.append(node.id)
        bound |= here
        bound |= {a.asname or a.name for n in nodes if hasattr(n, "names") for a in n.names}
    return found


def alone(block: str, *names: str) -> str:
    """Holds that a block lacks exactly these names, by its text and by running it.

    Its imports are replaced by names bound to None: whether peft is installed is not the question.

    Returns:
        the NameError, and all names that are lacking.
    """
    hold(missing(block) == list(names), f"missing are {missing(block)}")
    tree = ast.parse(textwrap.dedent(block))
    imports = [n for n in tree.body if isinstance(n, ast.ImportFrom)]
    tree.body = [n for n in tree.body if n not in imports]
    said = ""
    try:
        exec(compile(tree, "block", "exec"), {a.name: None for n in imports for a in n.names})
    except NameError as error:
        said = f"NameError: {error}"
    hold(names[0] in said, f"it says {said!r}")
    return f"{said}; it lacks {' and '.join(names)}"


@proves("lora-import")
def lora_import() -> str:
    """000:L17-24 in an empty namespace."""
    return alone(L17, "peft")


@proves("bitfit-import")
def bitfit_import() -> str:
    """001:L27 in an empty namespace."""
    return alone(L24, "AutoModelForCausalLM")


@proves("prompt-import")
def prompt_import() -> str:
    """001:L46-60: what no cell before it makes."""
    hold(missing(L24 + L46)[1:] == ["tokenizer"], "a cell before it has a tokenizer")
    found = missing(L46)
    hold(found == ["tokenizer", "model"], f"{found}")
    return "it lacks tokenizer and model; the cell before it makes a model, no cell a tokenizer"


@proves("merge-import")
def merge_import() -> str:
    """001:L128-137 in an empty namespace, and after all cells before it."""
    said = alone(L128, "AutoModelForCausalLM", "PeftModel")
    after = missing(L24 + L46 + L111 + L128)
    hold({"AutoModelForCausalLM", "PeftModel"} <= set(after), f"{after}")
    return said


@proves("lora-import-order")
def import_order() -> str:
    """003:L126, L180 and L460, each in a new kernel and each behind 003:L67 and L181."""
    for block, name in ((L126, "torch"), (L180, "torch"), (L460, "AutoModelForCausalLM")):
        hold(missing(block) == [name], f"{missing(block)}")
        hold(missing("import torch\n" + textwrap.dedent(L126) + textwrap.dedent(block)) == [], name)
    return "alone L126 and L180 lack torch, L460 AutoModelForCausalLM; in order they lack nothing"


@proves("lora-output-fence")
def output_fence() -> str:
    """002:L124 and L150-152 given to Python's parser."""
    shown = (
        "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.23643136409814364",
        "可训练参数量: 294912\n总参数量: 124734720\n可训练参数占比: 0.24%",
    )
    for text in shown:
        try:
            ast.parse(text)
        except SyntaxError:
            continue
        hold(False, f"this is Python: {text}")
    return "SyntaxError, both"


@proves("lora-not-wrapped")
def not_wrapped() -> str:
    """001:L111-124 on a fresh model, and the line it lacks."""
    names = {n.id for n in ast.walk(ast.parse(textwrap.dedent(L111))) if isinstance(n, ast.Name)}
    hold("get_peft_model" not in names, "it is called")  # imported only
    net: Any = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    config = LoraConfig(r=2, target_modules=["0"])
    hold(not hasattr(net, "print_trainable_parameters"), "an nn.Module has the method")
    before = sum(p.numel() for p in net.parameters() if p.requires_grad)
    after = get_peft_model(net, config).get_nb_trainable_parameters()[0]
    hold((before, after) == (58, 2 * (4 + 8)), f"{before}, {after}")
    return f"with the config made, {before} of 58 numbers still train; wrapped, {after}"


@proves("lora-alpha-comment")
def alpha_comment() -> str:
    """The scale of both configs."""
    found = scaling(32, 8), scaling(32, 16)
    hold(found == (4.0, 2.0), f"{found}")
    return f"002: α/r = {found[0]:g}; 003: {found[1]:g}"


@proves("lora-complete")
def complete() -> str:
    """What the note's class cannot do, and ours can."""
    verbs = [v for v in ("merge", "unmerge") if hasattr(NotesLoRALinear(nn.Linear(4, 3)), v)]
    hold(verbs == [], f"the note's class has {verbs}")
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(4, 3))
    x = torch.randn(5, 4)
    start = net[0].weight.detach().clone()
    config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    model: Any = get_peft_model(net, config).eval()
    beside = model(x)
    model.merge_adapter()
    moved = not torch.equal(net[0].base_layer.weight, start)
    hold(moved and torch.allclose(model(x), beside, atol=1e-5), "merged, it differs")
    model.unmerge_adapter()
    back = torch.equal(net[0].base_layer.weight, start)
    hold(back, "the weight came back changed")
    return "it has neither; minipeft's wrapper merges, and unmerges to the bit"


@proves("lora-bloom-default")
def bloom_default() -> str:
    """bloom-1b4-zh without target_modules."""
    model = get_peft_model(meta_model("bloom-1b4-zh"), LoraConfig(task_type="CAUSAL_LM", r=8))
    found = {name.rpartition(".")[2] for name in model.base_model.slots()}
    n = model.get_nb_trainable_parameters()[0]
    hold(found == {"query_key_value"} and n == 24 * 8 * (2048 + 3 * 2048), f"{found}, {n:,}")
    return f"{n:,} on bloom-1b4-zh, r = 8"


@proves("loftq-dots")
def dots_first() -> str:
    """000:L63: what `...` is taken for."""
    try:
        LoraConfig(..., target_modules="all-linear")  # type: ignore[arg-type]
        said = ""
    except MinipeftError as error:
        said = str(error)
    hold("task_type" in said and "Ellipsis" in said, said)
    return f"{said.split(' must ')[0]} ..., got Ellipsis"

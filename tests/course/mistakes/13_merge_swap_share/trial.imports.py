"""Answers to trial.imports: the lines that three cells lack."""

from minipeft.course.corpus import right, wrong

CLASSES = "from transformers import AutoModelForCausalLM\nfrom peft import PeftModel"


def lines(first="import peft", second=CLASSES, third="import torch"):
    """The three entries."""
    return {"000:L17": first, "001:L128": second, "003:L180": third}


class_for_module = wrong("000:L17: NameError: name 'peft' is not defined")(
    lines("from peft import LoraConfig")
)
one_of_two = wrong("001:L128: NameError: name 'PeftModel' is not defined")(
    lines(second="from transformers import AutoModelForCausalLM")
)
module_for_class = wrong("`peft` is, but the cell does not write peft.PeftModel")(
    lines(second="from transformers import AutoModelForCausalLM\nimport peft")
)
from_peft = wrong(
    "AutoModelForCausalLM is peft.AutoModelForCausalLM now; it should be transformers.Auto"
)(lines(second="from peft import AutoModelForCausalLM, PeftModel"))
dtype_only = wrong("003:L180: NameError: name 'torch' is not defined")(
    lines(third="from torch import bfloat16")
)
had_already = wrong("003:L180: it does not use AutoModelForCausalLM, or has it already")(
    lines(third="import torch\nfrom transformers import AutoModelForCausalLM")
)
another_module = wrong("000:L17: peft is torch now; it should be peft or minipeft")(
    lines("import torch as peft")
)
no_import = wrong("is no import line")(lines("peft = None"))
no_python = wrong("that is no Python")(lines("import peft from peft"))
no_text = wrong("give the lines as one string")(lines(["import peft"]))
a_list = wrong("give a dictionary")(["import peft", CLASSES, "import torch"])
one_cell = wrong("the keys are")({"000:L17": "import peft"})

each = right(lines())
minipefts = right(
    lines(
        "import minipeft as peft",
        "from minipeft import PeftModel\nfrom transformers import AutoModelForCausalLM",
    )
)
semicolon = right(lines(second=CLASSES.replace("\n", "; ")))

"""minipeft: parameter-efficient fine-tuning from scratch, each method as its paper derives it.

from minipeft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig(r=8))
model.print_trainable_parameters()
"""

from .checkpoint import get_peft_model_state_dict, set_peft_model_state_dict
from .config import PeftConfig, PeftType, TaskType
from .core import Method, register
from .errors import MinipeftError, MinipeftWarning
from .methods.ia3 import IA3, IA3Config
from .methods.bitfit import BitFit, BitFitConfig
from .methods.lora import LoraConfig, LoRALayer, LoRALinear
from .model import PeftModel, get_peft_model
from .tuner import LoraModel

# One line makes a method known.
register(BitFitConfig, BitFit)
register(LoraConfig, LoRALayer)
register(IA3Config, IA3)

__version__ = "0.1.0"

__all__ = [
    "BitFit",
    "BitFitConfig",
    "IA3",
    "IA3Config",
    "LoRALayer",
    "LoRALinear",
    "LoraConfig",
    "LoraModel",
    "Method",
    "MinipeftError",
    "MinipeftWarning",
    "PeftConfig",
    "PeftModel",
    "PeftType",
    "TaskType",
    "get_peft_model",
    "get_peft_model_state_dict",
    "register",
    "set_peft_model_state_dict",
]

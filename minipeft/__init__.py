"""minipeft: parameter-efficient fine-tuning from scratch, each method as its paper derives it.

from minipeft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig(r=8))
model.print_trainable_parameters()
"""

from .config import PeftConfig, PeftType, TaskType
from .core import Method, register
from .errors import MinipeftError, MinipeftWarning
from .methods.adapter import Adapter, AdapterConfig
from .methods.bitfit import BitFit, BitFitConfig
from .methods.ia3 import IA3, IA3Config
from .methods.lora import LoraConfig, LoRALayer, LoRALinear
from .methods.p_tuning import (
    PromptEncoder,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
)
from .methods.p_tuning_v2 import PTuningV2, PTuningV2Config
from .methods.prefix_tuning import PrefixEncoder, PrefixTuningConfig
from .methods.prompt_tuning import (
    PromptTunedTransformer,
    PromptTuning,
    PromptTuningConfig,
    PromptTuningInit,
)
from .model import PeftModel, get_peft_model
from .state import get_peft_model_state_dict, set_peft_model_state_dict
from .tuner import LoraModel

# One line makes a method known.
register(BitFitConfig, BitFit)
register(LoraConfig, LoRALayer)
register(IA3Config, IA3)
register(AdapterConfig, Adapter)
register(PromptTuningConfig, PromptTuning)
register(PromptEncoderConfig, PromptEncoder)
register(PrefixTuningConfig, PrefixEncoder)
register(PTuningV2Config, PTuningV2)

__version__ = "0.1.0"

__all__ = [
    "IA3",
    "Adapter",
    "AdapterConfig",
    "BitFit",
    "BitFitConfig",
    "IA3Config",
    "LoRALayer",
    "LoRALinear",
    "LoraConfig",
    "LoraModel",
    "Method",
    "MinipeftError",
    "MinipeftWarning",
    "PTuningV2",
    "PTuningV2Config",
    "PeftConfig",
    "PeftModel",
    "PeftType",
    "PrefixEncoder",
    "PrefixTuningConfig",
    "PromptEncoder",
    "PromptEncoderConfig",
    "PromptEncoderReparameterizationType",
    "PromptTunedTransformer",
    "PromptTuning",
    "PromptTuningConfig",
    "PromptTuningInit",
    "TaskType",
    "get_peft_model",
    "get_peft_model_state_dict",
    "register",
    "set_peft_model_state_dict",
]

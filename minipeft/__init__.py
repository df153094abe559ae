"""minipeft: parameter-efficient fine-tuning from scratch, each method as its paper derives it.

from minipeft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig(r=8))
model.print_trainable_parameters()
"""

from .config import PeftConfig, PeftType, TaskType
from .core import Method, register
from .errors import MinipeftError, MinipeftWarning
from .kbit import QuantizationReport, prepare_model_for_kbit_training, quantize_model
from .methods.adapter import Adapter, AdapterConfig
from .methods.bitfit import BitFit, BitFitConfig
from .methods.dora import DoRALayer
from .methods.ia3 import IA3, IA3Config
from .methods.loftq import LoftQConfig
from .methods.lora import LoraConfig, LoRALayer
from .methods.lora_linear import LoRALinear
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
from .quant import QuantizedLinear, dequantize_nf4, quantize_nf4
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
    "DoRALayer",
    "IA3Config",
    "LoRALayer",
    "LoRALinear",
    "LoftQConfig",
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
    "QuantizationReport",
    "QuantizedLinear",
    "TaskType",
    "dequantize_nf4",
    "get_peft_model",
    "get_peft_model_state_dict",
    "prepare_model_for_kbit_training",
    "quantize_model",
    "quantize_nf4",
    "register",
    "set_peft_model_state_dict",
]

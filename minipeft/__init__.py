"""minipeft: parameter-efficient fine-tuning from scratch, each method as its paper derives it.

from minipeft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig(r=8))
model.print_trainable_parameters()
"""

from .checks.errors import MinipeftError, MinipeftWarning
from .layers.quant import QuantizedLinear, dequantize_nf4, quantize_nf4
from .methods.adapter import ADAPTER, Adapter, AdapterConfig
from .methods.bitfit import BITFIT, BitFit, BitFitConfig
from .methods.config import PeftConfig, PeftType, TaskType
from .methods.dora import Directions, DoRALayer
from .methods.ia3 import IA3, IA3_PLACEMENT, IA3Config
from .methods.loftq import LoftQ, LoftQConfig
from .methods.lora import LORA, LoraConfig, LoRALayer
from .methods.lora_linear import LoRALinear
from .methods.lora_options.bias import Biases
from .methods.lora_options.conv import BesideConvolutions
from .methods.lora_options.embedding import BesideEmbeddings
from .methods.lora_options.patterns import NumberedLayers, RanksByLayer
from .methods.lora_options.replication import Replicate
from .methods.method import Method, register
from .methods.p_tuning import (
    P_TUNING,
    PromptEncoder,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
)
from .methods.p_tuning_v2 import P_TUNING_V2, PTuningV2, PTuningV2Config
from .methods.prefix_tuning import PREFIX_TUNING, PrefixEncoder, PrefixTuningConfig
from .methods.prompt_tuning import (
    PROMPT_TUNING,
    PromptTunedTransformer,
    PromptTuning,
    PromptTuningConfig,
    PromptTuningInit,
)
from .model import PeftModel, get_peft_model
from .saving.keys import get_peft_model_state_dict, set_peft_model_state_dict
from .tuner.attach import LoraModel
from .tuner.quantize import QuantizationReport, prepare_model_for_kbit_training, quantize_model

# One line makes a method known. LoRA's further options act in this order.
LORA_OPTIONS = (
    NumberedLayers(), RanksByLayer(), Replicate(), BesideEmbeddings(), BesideConvolutions(),
    LoftQ(), Directions(), Biases(),
)  # fmt: skip
register(BitFitConfig, BITFIT)
register(LoraConfig, LORA, LORA_OPTIONS)
register(IA3Config, IA3_PLACEMENT)
register(AdapterConfig, ADAPTER)
register(PromptTuningConfig, PROMPT_TUNING)
register(PromptEncoderConfig, P_TUNING)
register(PrefixTuningConfig, PREFIX_TUNING)
register(PTuningV2Config, P_TUNING_V2)

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

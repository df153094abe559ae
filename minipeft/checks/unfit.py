"""What is said of inputs, layers and options that a method cannot work with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import CheckpointError, ConfigError, ConfigTypeError, StateError, TargetError
from .say import did_you_mean, listed, shown

# --- BitFit --------------------------------------------------------------------------------------


def shared_bias(names: Iterable[str], fix: str) -> TargetError:
    """Layers that share one bias."""
    return TargetError(
        f"{listed(names)} share one bias, and what is trained beside each would count for "
        f"all of them; {fix}"
    )


def no_biases(model: Any) -> TargetError:
    """A model without biases."""
    return TargetError(
        f"{type(model).__name__} has no biases, so BitFit has nothing to train; take a "
        f"method that stands beside its weight matrices: LoRA (LoraConfig), IA³ (IA3Config)"
    )


# --- virtual tokens ------------------------------------------------------------------------------


def other_size(name: str, given: Any, model: Any, own: Any) -> ConfigError:
    """A size in the config that is not the model's."""
    return ConfigError(
        f"{name}={given} does not fit this {type(model).__name__}, "
        f"which has {own}; leave {name} out, it is read from the model"
    )


def no_room_for_text(tokens: int, model: Any, longest: int) -> ConfigError:
    """As many virtual tokens as the model has positions."""
    return ConfigError(
        f"num_virtual_tokens={tokens} leaves no room for text: {type(model).__name__} "
        f"reads at most {longest} positions; take fewer"
    )


def reads_no_tokens(model: Any) -> TargetError:
    """A model without word embeddings."""
    return TargetError(
        f"{type(model).__name__} has no word embeddings, so there is nothing to put virtual "
        f"tokens before; use a method that works on layers, such as LoraConfig"
    )


def computed_tokens(method: Any) -> CheckpointError:
    """Virtual tokens that a network computes, where they were to be set."""
    return CheckpointError(
        f"the virtual tokens of {type(method).__name__} are computed by a network, so they "
        f"cannot be set; load the adapter with inference_mode, without the network"
    )


def no_cache(reader: Any) -> TargetError:
    """A model that takes no keys and values."""
    return TargetError(
        f"{type(reader).__name__} takes no past_key_values, so it has no place for the "
        f"keys and values of a prefix; PromptTuningConfig needs none"
    )


def cache_dropped() -> StateError:
    """A prefix under gradient checkpointing."""
    return StateError(
        "gradient checkpointing drops the attention cache, and with it the prefix; call "
        "model.gradient_checkpointing_disable(), or use PromptTuningConfig"
    )


def other_mask(batch: int, text: int, shape: Any) -> StateError:
    """A mask of another shape than the text's; `shape` is a type's name if it is no tensor."""
    return StateError(
        f"with virtual tokens attention_mask must be ({batch}, {text}), one column for each "
        f"token of text; got {shape}"
    )


def other_labels(need: Iterable[int], shape: Iterable[int]) -> StateError:
    """Labels of another shape than the text's."""
    return StateError(
        f"labels must be {tuple(need)}, one for each token of text (-100 for those "
        f"that do not count), got {tuple(shape)}"
    )


def too_long(v: int, text: int, model: Any, longest: int) -> StateError:
    """Virtual tokens and text that are more than the model has positions."""
    return StateError(
        f"{v} virtual tokens and {text} tokens of text are {v + text} positions, and "
        f"{type(model).__name__} reads at most {longest}: shorten the text to {longest - v}"
    )


def fixed_size(past: Any) -> StateError:
    """A cache that cannot grow."""
    return StateError(
        f"{type(past).__name__} has a fixed size, and no room for virtual tokens in it; "
        f"leave cache_implementation out, or give a DynamicCache"
    )


# --- prompt tuning -------------------------------------------------------------------------------


def no_embedding(given: Any) -> ConfigTypeError:
    """What is no embedding to start from."""
    return ConfigTypeError(
        f"initialize_from_vocab must be the model's word embedding, such as "
        f"model.get_input_embeddings(), or None; got {shown(given)}"
    )


def other_width(token_dim: int, width: int) -> ConfigError:
    """An embedding of another width."""
    return ConfigError(f"token_dim={token_dim} does not fit an embedding of width {width}")


def only_with_text(name: str, init: Any) -> ConfigError:
    """An option of prompt_tuning_init="TEXT" beside another one."""
    return ConfigError(
        f"{name} is used with prompt_tuning_init='TEXT' only, got prompt_tuning_init={init.value!r}"
    )


def no_tokenizer(name: str | None) -> ConfigError:
    """A tokenizer that cannot be loaded."""
    return ConfigError(
        f"tokenizer_name_or_path={name!r} is no tokenizer that can "
        f"be loaded; give a folder or a name, such as tokenizer.name_or_path"
    )


# --- LoftQ ---------------------------------------------------------------------------------------


def unused_loftq(options: Any, init: Any) -> ConfigError:
    """loftq_config without the start that reads it."""
    return ConfigError(
        f"loftq_config={options!r} does nothing with init_lora_weights={init!r}; "
        f'LoftQ needs init_lora_weights="loftq" as well'
    )


def too_few_directions(base: Any, smaller: int, r: int) -> TargetError:
    """A rank beyond the layer's smaller width."""
    return TargetError(
        f"LoftQ takes r singular directions, and {base.name or 'the layer'} "
        f"({base.out_features}, {base.in_features}) has {smaller}, got r={r}"
    )


def no_plain_weight(base: Any) -> TargetError:
    """A layer whose own W cannot be quantized."""
    return TargetError(
        f'init_lora_weights="loftq" quantizes the layer itself and needs its own W, but '
        f"{base.name or 'the layer'} is a {base.kind}; give the model before quantization"
    )


# --- add_weighted_adapter ------------------------------------------------------------------------


def no_combination(given: Any, known: Iterable[str]) -> ConfigError:
    """A combination_type that there is not."""
    known = list(known)
    near = did_you_mean(str(given), known)
    return ConfigError(f"combination_type must be one of {listed(known)}, got {given!r}{near}")


def other_weights(adapters: Iterable[str], given: Any) -> ConfigTypeError:
    """Weights that are no list of a number for each adapter."""
    return ConfigTypeError(
        f"weights must be a list with one number for each of {listed(adapters)}, got {given!r}"
    )


def no_sum(name: str, config: Any, dora: bool) -> ConfigError:
    """An adapter whose effect on W cannot be added up: a DoRA, or of another method."""
    what = "a DoRA" if dora else f"a {type(config).__name__}"
    return ConfigError(
        f"only LoRAs can be added up: {name!r} is {what}, whose effect on W is no sum"
    )


def more_than_lora(name: str) -> ConfigError:
    """A LoRA with biases or whole modules."""
    return ConfigError(
        f"{name!r} trains biases or whole modules (bias, modules_to_save) beside its "
        f"LoRA, and those cannot be added up"
    )


def unequal_ranks(ranks: list[int]) -> ConfigError:
    """Several ranks where the factors are added."""
    return ConfigError(
        f"combination_type='linear' adds A to A, so the ranks must be equal; they are "
        f"{ranks}; 'cat' and 'svd' take any"
    )


# --- LoRA by hand --------------------------------------------------------------------------------


def lora_start(given: Any) -> ConfigError:
    """A start that one LoRA by hand does not have."""
    return ConfigError(
        f"init_lora_weights must be True, False, 'gaussian' or 'orthogonal' for a LoRALayer made "
        f"by hand, got {given!r}; LoftQ needs the layer that it quantizes: "
        f"LoraConfig(init_lora_weights='loftq')"
    )


# --- numbered and replicated layers --------------------------------------------------------------


def pattern_alone(pattern: Any) -> ConfigError:
    """layers_pattern without numbers."""
    return ConfigError(
        f"layers_pattern={pattern!r} says where layers_to_transform counts, "
        f"and that was left out; give both, or neither"
    )


def numbers_beside_expression(target: str) -> ConfigError:
    """layers_to_transform beside a regular expression."""
    return ConfigError(
        f"layers_to_transform needs target_modules as a list, or none for the default; got "
        f"{target!r}, and a regular expression can name the layers itself"
    )


def no_layer_number(name: str, value: Any) -> ConfigTypeError:
    """What is no number of a layer."""
    return ConfigTypeError(
        f"{name} must be a layer's number or a list of them, such as [0, 1], got {shown(value)}"
    )


def counted_from_the_end(name: str, value: Any) -> ConfigError:
    """A negative number of a layer."""
    return ConfigError(
        f"{name} counts layers from 0, got {value!r}; name the last layers by their numbers"
    )


def past_the_end(ranges: Any, last: int, model: Any, layers: int) -> TargetError:
    """layer_replication of more layers than there are."""
    return TargetError(
        f"layer_replication={ranges!r} asks for layer {last}, and "
        f"{type(model).__name__} has the layers 0 … {layers - 1}"
    )


def no_single_stack(model: Any, lists: int) -> TargetError:
    """A model whose layers do not stand in one list."""
    what = "no list of layers" if not lists else "more than one list of layers"
    return TargetError(
        f"layer_replication needs a model with one stack of layers, as config.num_hidden_layers"
        f" counts them; {type(model).__name__} has {what}"
    )


# --- quantization --------------------------------------------------------------------------------


def no_block(blocksize: Any, per_byte: int) -> ConfigError:
    """A block that does not fill whole bytes."""
    return ConfigError(
        f"blocksize must be a positive multiple of {per_byte}, such as 64, got {shown(blocksize)}"
    )


def not_finite(name: str, number: float, where: tuple[int, ...], many: int) -> ConfigError:
    """Numbers that are not finite: the first of `many`, and its place."""
    return ConfigError(
        f"{name} holds {number} at position {where}"
        f"{f' and {many - 1} more numbers that are not finite' if many > 1 else ''}; "
        f"such a number cannot be quantized and would spoil its block: repair the weights first"
    )


def no_compute_dtype(given: Any) -> ConfigTypeError:
    """What is no floating dtype to compute in."""
    return ConfigTypeError(
        f"compute_dtype must be a floating dtype, such as torch.bfloat16, got {given!r}"
    )


def nothing_to_quantize(model: Any, linear: Iterable[str], left: Iterable[str]) -> TargetError:
    """A model of which every linear layer is left alone."""
    return TargetError(
        f"there is no layer to quantize in {type(model).__name__}; its linear layers: "
        f"{listed(linear, most=20)}; left alone: {listed(left)}"
    )


def no_checkpointing(model: Any) -> ConfigTypeError:
    """A model that cannot checkpoint activations."""
    return ConfigTypeError(
        f"{type(model).__name__} cannot checkpoint activations as models of transformers can; "
        f"give use_gradient_checkpointing=False"
    )


def not_quantized() -> StateError:
    """A model to prepare for training on quantized layers that has none."""
    return StateError(
        "no layer of this model is quantized; quantize_model(model) first, or load it with "
        "a BitsAndBytesConfig; a LoRA beside plain layers needs no preparation"
    )

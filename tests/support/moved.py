"""Lines of the package's paths made wrong, each with the test that must notice: see quick.py.

The formulas are in mutations.py. These are the places that went into other rooms when the house was
built anew: what a plan means, refuses, builds and counts, the slots, the names on disk, the files.
"""

from __future__ import annotations

from mutate import Mutation

PLAN, CONFIG, REFUSE = "tuner/plan.py", "methods/config.py", "checks/refuse.py"
RULES, SLOTS, ATTACH = "checks/rules.py", "tuner/slots.py", "tuner/attach.py"
KEYS, CHECKPOINT, ATOMIC = "saving/keys.py", "saving/checkpoint.py", "saving/atomic.py"


def M(name: str, file: str, old: str, new: str, test: str) -> Mutation:
    """A line, and the suite's test."""
    return Mutation(name, file, old, new, test, "", "")


MOVED = [
    M("plan-excludes-the-rest", PLAN, "if not matches(config.exclude_modules, n)",
      "if matches(config.exclude_modules, n)",
      "test_lora_patterns.py::test_the_layers_ranks_scales_and_numbers_are_pefts"),
    M("plan-adapts-what-is-trained-whole", PLAN, "n not in heads and not (inside and",
      "not (not inside and",
      "test_saved_modules.py::test_a_head_is_not_adapted_as_well"),
    M("plan-no-pattern-for-a-layer", PLAN,
      "        config = option.at(config, base.name)\n    own_kind", "        pass\n    own_kind",
      "test_lora_patterns.py::test_a_rank_and_a_scale_by_hand"),
    M("plan-counts-no-option", PLAN, "n = option.count(config, base, n)", "n = int(n)",
      "test_lora_patterns.py::test_the_formula_counts_what_there_is"),
    M("plan-misses-no-entry", PLAN, "if lost or layout.heads:", "if layout.heads:",
      "test_bad_input.py::test_a_bad_target_changes_nothing"),
    M("plan-in-training-mode", PLAN, "planned.methods[path] = method.train(base.layer.training)",
      "planned.methods[path] = method.train(True)",
      "test_model_verbs.py::test_modes_are_kept"),
    M("plan-builds-a-linear-lora-anywhere", PLAN, "if own_kind is None else", "if True else",
      "test_lora_embedding.py"),
    M("plan-drops-the-layer-that-loftq-made", PLAN, "if stands_on is not base:",
      "if stands_on is None:", "test_loftq_model.py"),
    M("config-matches-endings-without-a-dot", CONFIG, 'name.endswith(f".{entry}")',
      "name.endswith(entry)", "test_targets.py::test_a_name_matches_whole_parts_only"),
    M("config-checks-nothing-when-set", CONFIG, "value = self._rule(name)(name, value)",
      "self._rule(name)",
      "test_bad_input.py::test_a_bad_value_is_named_with_what_is_allowed"),
    M("config-can-be-changed-in-use", CONFIG, '{**resolved, "in_use": True}', "{**resolved}",
      "test_ours.py::test_a_mistake_is_met[memory: a config changed while in use]"),
    M("config-asks-for-no-option", CONFIG, "getattr(self, name) != value for",
      "getattr(self, name) is None for",
      "test_lora_bias.py::test_the_base_can_always_be_had_back_to_the_bit"),
    M("rules-one-is-too-few", RULES, "if value < low:", "if value <= low:",
      "test_merge_rounding.py::test_a_number_by_hand"),
    M("rules-zero-in-an-open-interval", RULES, "or (open_low and value == low)", "",
      "test_bad_input.py::test_a_bad_value_is_named_with_what_is_allowed"),
    M("refuse-any-name", REFUSE, "or name in known | own | OURS", "",
      "test_bad_input.py::test_a_bad_name_changes_nothing"),
    M("refuse-mixture-the-wrong-way", REFUSE, 'kind = "layer" if virtual else "prompt"',
      'kind = "prompt" if virtual else "layer"', "test_prompt_verbs.py"),
    M("refuse-no-order-of-merging", REFUSE, "rank(other) < rank(name)", "rank(other) > 99",
      "test_merge_order.py"),
    M("refuse-shared-weights-never", REFUSE, "if len(shared) > 1 and any(",
      "if shared and not any(",
      "test_merging.py"),
    M("slots-unmerge-keeps-the-sum", SLOTS, "base.write(self.original_weight)", "pass",
      "test_merging.py"),
    M("slots-input-folded-first", SLOTS, "key=lambda method: bool(method.changes_input)",
      "key=lambda method: not method.changes_input", "test_merge_order.py"),
    M("slots-merged-acts-twice", SLOTS, "for name in names if name not in self.merged]",
      "for name in names]", "test_merging.py"),
    M("attach-unload-frees-everything", ATTACH, "requires_grad_(name in self._was_trainable)",
      "requires_grad_(True)",
      "test_model_verbs.py::test_unload_gives_back_what_was_trainable"),
    M("attach-one-place-of-two", ATTACH, "for m in self.model.modules() if m not in new.values()]",
      "for m in list(self.model.modules())[1:] if m not in new.values()]",
      "test_extension.py::test_a_bias_that_is_not_finite_is_refused"),
    M("keys-our-names-on-disk", KEYS, "adapter.on_disk if in_wrapper else {}", "{}",
      "test_checkpoint.py"),
    M("keys-any-frozen-weight", KEYS, "or not same(own, given[key])", "",
      "test_lora_embedding_files.py"),
    M("checkpoint-fits-anything", CHECKPOINT, "wrong = own != shapes and", "wrong = None and",
      "test_damaged_files.py"),
    M("checkpoint-peft-is-not-told", CHECKPOINT, "all(wrapper.transposed for wrapper in into)",
      "False", "test_checkpoint.py"),
    M("atomic-config-beside-other-weights", ATOMIC,
      "(folder / last).unlink(missing_ok=True)  # no", "pass  # no",
      "test_torn_saves.py::test_stopped_before_each_step_the_folder_has_one_adapter"),
    M("digests-any-tensor", "saving/digests.py", '.get(key) != digest(tensor)',
      '.get(key) is None',
      "test_torn_saves.py::test_one_flipped_bit_is_named"),
    M("bias-not-folded", "methods/lora_options/bias.py",
      "return self.trained_bias.fold(*self.lora.fold(weight, bias))",
      "return self.lora.fold(weight, bias)",
      "test_lora_bias.py::test_the_base_can_always_be_had_back_to_the_bit"),
    M("rows-in-another-order", "tuner/rows.py", "for name in self.names for _ in range(n)]",
      "for _ in range(n) for name in self.names]", "test_adapter_names.py"),
]  # fmt: skip

"""Answers to capstone.notes_call: names that are gone, meanings that are lost."""

from minipeft.course.corpus import right, wrong

KEPT = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "logging_steps": 10,
    "save_strategy": "epoch",
    "fp16": True,
    "optim": "paged_adamw_8bit",
}
TODAY = {"warmup_steps": 0.03, "train_sampling_strategy": "group_by_length"}
DATA = {"dataset_text_field": "text", "max_length": 2048}


def call(training=None, data=None, without=(), **more):
    given = {**KEPT, **TODAY, **more} if training is None else training
    kept = {name: value for name, value in given.items() if name not in without}
    return {"training": kept, "data": DATA if data is None else data}


as_written = wrong("warmup_ratio is gone")(call({**KEPT, "warmup_ratio": 0.03}))
by_length = wrong("group_by_length is gone")(call(group_by_length=True))
length = wrong("is called max_length today")(call(data={"max_seq_length": 2048}))
data_there = wrong("dataset_text_field is no option of the training")(
    call(dataset_text_field="text")
)
three_steps = wrong("warmup_steps=3 is not 3 % of the steps")(call(warmup_steps=3))
invented = wrong("TrainingArguments has no 'warmup'")(call(warmup=0.03))
no_warmup = wrong("training lacks warmup_steps")(call(without=["warmup_steps"]))
no_grouping = wrong("lacks train_sampling_strategy")(call(without=["train_sampling_strategy"]))
rate = wrong("learning_rate should stay 0.0002, not 5e-05")(call(learning_rate=5e-5))
precision = wrong("training lacks fp16=True")(call(without=["fp16"]))
both = wrong("exclude each other")(call(bf16=True))
no_field = wrong("data should hold the note's two options")(call(data={"max_length": 2048}))
flat = wrong('give a dictionary {"training": {...}, "data": {...}}')({**KEPT, **TODAY})
a_list = wrong("data should be a dictionary")({"training": KEPT, "data": ["text", 2048]})

mended = right(call())
in_bfloat16 = right(call(without=["fp16"], bf16=True))
with_a_folder = right(call(output_dir="./lora_model"))

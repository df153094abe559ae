"""Answers to lora.linear: a frozen layer and its LoRA."""

import torch.nn.functional as F

from minipeft.course.corpus import right, wrong


@wrong("the frozen output counts twice")
def counted_twice(self, x):
    y = self.base_layer(x)
    return y + self.lora(self.dropout(x), y)


@wrong("the LoRA's update is missing")
def only_frozen(self, x):
    return self.base_layer(x)


@wrong("the frozen layer's output is missing")
def only_update(self, x):
    y = self.base_layer(x)
    return self.lora(self.dropout(x), y * 0)


@wrong("dropout reaches the frozen path")
def dropout_on_both(self, x):
    x = self.dropout(x)
    return self.lora(x, self.base_layer(x))


@wrong("dropout is on the frozen path; it belongs on the LoRA path")
def dropout_on_the_wrong_one(self, x):
    return self.lora(x, self.base_layer(self.dropout(x)))


@wrong("dropout is not applied to the LoRA path")
def no_dropout(self, x):
    return self.lora(x, self.base_layer(x))


@wrong("dropout is applied to the output")
def dropout_at_the_end(self, x):
    return self.dropout(self.lora(x, self.base_layer(x)))


@wrong("TypeError")
def base_forgotten(self, x):
    return self.base_layer(x) + self.lora(self.dropout(x))


@right
def one_line(self, x):
    return self.lora(self.dropout(x), self.base_layer(x))


@right
def spelled_out(self, x):
    y = F.linear(x, self.base_layer.weight, self.base_layer.bias)
    a, b = self.lora.lora_A, self.lora.lora_B
    return y + self.lora.scaling * (self.dropout(x) @ a.T @ b.T)


@right
def update_first(self, x):
    y = self.base_layer(x)
    change = self.lora(self.dropout(x), y * 0)
    return y + change

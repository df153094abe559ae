"""Answers to inside_peft.replace: wherever the layer stands, but not inside its wrapper."""

import copy

from minipeft.course.corpus import right, wrong


@wrong("give each module once")
def by_named_children(self, new):
    for parent in [m for m in self.model.modules() if m not in new.values()]:
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])


@wrong("in the top module only")
def top_only(self, new):
    for name, child in self.model._modules.items():
        if child in new:
            self.model._modules[name] = new[child]


@wrong("now the wrapper holds itself")
def into_the_wrapper(self, new):
    for parent in list(self.model.modules()) + list(new.values()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]


@wrong("stands there as a copy")
def copied(self, new):
    for parent in [m for m in self.model.modules() if m not in new.values()]:
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = copy.deepcopy(new[child])


@wrong("the model is as it was")
def nothing(self, new):
    pass


@wrong("a layer that is not in `new` was changed")
def all_of_a_kind(self, new):
    import torch

    (old, wrapper), *_ = new.items()
    for parent in [m for m in self.model.modules() if m not in new.values()]:
        for name, child in parent._modules.items():
            if child is old or (isinstance(child, torch.nn.Linear) and parent is self.model):
                parent._modules[name] = wrapper


@right
def by_path(self, new):
    for path, module in list(self.model.named_modules(remove_duplicate=False)):
        if module in new:
            parent, _, name = path.rpartition(".")
            setattr(self.model.get_submodule(parent), name, new[module])


@right
def recursive(self, new):
    def go(parent):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
            elif child is not None:
                go(child)

    go(self.model)

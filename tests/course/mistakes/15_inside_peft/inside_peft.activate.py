"""Answers to inside_peft.activate: those that stand here, in order; the others frozen."""

from minipeft.course.corpus import right, wrong


def train(self, trained):
    for name, adapter in self.adapters.items():
        adapter.requires_grad_(name in trained)


def here(self, names):
    return tuple(name for name in names if name in self.adapters)


@wrong("a name is active that does not stand here")
def any_name(self, names, trained):
    self.active = tuple(names)
    train(self, trained)


@wrong("keep the order of `names`")
def order_of_adapters(self, names, trained):
    self.active = tuple(name for name in self.adapters if name in names)
    train(self, trained)


@wrong("those not in `trained` are frozen")
def never_frozen(self, names, trained):
    self.active = here(self, names)
    for name in self.adapters:
        if name in names and name not in trained:
            self.adapters[name].requires_grad_(False)


@wrong("active is not trained")
def active_is_trained(self, names, trained):
    self.active = here(self, names)
    train(self, names)


@wrong("the new names take the old ones' place")
def added(self, names, trained):
    self.active = tuple(dict.fromkeys([*here(self, names), *self.active]))
    train(self, trained)


@wrong("is frozen; it is in `trained`")
def all_frozen(self, names, trained):
    self.active = here(self, names)
    self.adapters.requires_grad_(False)


@wrong("it should be ('c', 'a')")
def first_only(self, names, trained):
    self.active = here(self, names)[:1]
    train(self, trained)


@right
def by_filter(self, names, trained):
    self.active = tuple(filter(self.adapters.__contains__, names))
    self.adapters.requires_grad_(False)
    for name in set(trained) & set(self.adapters):
        self.adapters[name].requires_grad_(True)


@right
def by_loop(self, names, trained):
    active = []
    for name in names:
        if name in self.adapters:
            active.append(name)
    self.active = tuple(active)
    for name in self.adapters:
        for parameter in self.adapters[name].parameters():
            parameter.requires_grad = name in trained

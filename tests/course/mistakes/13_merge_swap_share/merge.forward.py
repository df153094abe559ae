"""Answers to merge.forward: before, the frozen layer, after; merged adapters are skipped."""

from minipeft.course.corpus import right, wrong


def act(self, names, x, *args, **kwargs):
    if self.rows is not None:
        return self.rows.through(self.adapters, self.base_layer, x, *args, **kwargs)
    live = [self.adapters[name] for name in names] if self.enabled else []
    for method in live:
        x = method.before(x)
    y = self.base_layer(x, *args, **kwargs)
    for method in live:
        y = method.after(x, y)
    return y


def unmerged(self):
    return [name for name in self.active if name not in self.merged]


@wrong("what is merged acts twice")
def merged_too(self, x, *args, **kwargs):
    return act(self, self.active, x, *args, **kwargs)


@wrong("once something is merged nothing acts")
def nothing_beside(self, x, *args, **kwargs):
    return act(self, () if self.merged else self.active, x, *args, **kwargs)


@wrong("`enabled` is False")
def always(self, x, *args, **kwargs):
    was, self.enabled = self.enabled, True
    y = act(self, unmerged(self), x, *args, **kwargs)
    self.enabled = was
    return y


@wrong("`before` is not applied")
def without_before(self, x, *args, **kwargs):
    y = self.base_layer(x, *args, **kwargs)
    for name in unmerged(self):
        y = self.adapters[name].after(x, y)
    return y


@wrong("`after` is not applied")
def without_after(self, x, *args, **kwargs):
    for name in unmerged(self):
        x = self.adapters[name].before(x)
    return self.base_layer(x, *args, **kwargs)


@wrong("no adapter acts")
def frozen(self, x, *args, **kwargs):
    return self.base_layer(x, *args, **kwargs)


@wrong("gets what the frozen layer got")
def outside(self, x, *args, **kwargs):
    z = x
    for name in unmerged(self):
        z = self.adapters[name].before(z)
    y = self.base_layer(z, *args, **kwargs)
    for name in unmerged(self):
        y = self.adapters[name].after(x, y)
    return y


@wrong("only the first active adapter")
def first(self, x, *args, **kwargs):
    return act(self, unmerged(self)[:1], x, *args, **kwargs)


@wrong("in the reverse order")
def nested(self, x, *args, **kwargs):
    live = [self.adapters[name] for name in unmerged(self)]
    for method in live:
        x = method.before(x)
    y = self.base_layer(x, *args, **kwargs)
    for method in reversed(live):
        y = method.after(x, y)
    return y


@wrong("not handed to `rows.through`")
def without_rows(self, x, *args, **kwargs):
    rows, self.rows = self.rows, None
    y = act(self, unmerged(self), x, *args, **kwargs)
    self.rows = rows
    return y


@right
def sets(self, x, *args, **kwargs):
    return act(self, [n for n in self.active if n not in set(self.merged)], x, *args, **kwargs)


@right
def recursive(self, x, *args, **kwargs):
    if self.rows is not None:
        return self.rows.through(self.adapters, self.base_layer, x, *args, **kwargs)
    live = list(map(self.adapters.__getitem__, unmerged(self))) * self.enabled

    def go(x, i):
        if i < len(live):
            return go(live[i].before(x), i + 1)
        y = self.base_layer(x, *args, **kwargs)
        for method in live:
            y = method.after(x, y)
        return y

    return go(x, 0)

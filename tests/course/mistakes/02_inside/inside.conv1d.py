"""Answers to inside.conv1d: weight.T, as a view."""

from minipeft.course.corpus import right, wrong


@wrong("that is the weight as it is stored")
def stored(self):
    return self.layer.weight


@wrong("reshape and view keep the order")
def reshaped(self):
    return self.layer.weight.reshape(self.out_features, self.in_features)


@wrong("W is a copy")
def cloned(self):
    return self.layer.weight.T.clone()


@wrong("W is None: is there a `return`?")
def nothing(self):
    self.w = self.layer.weight.T


@right
def transpose(self):
    return self.layer.weight.transpose(0, 1)


@right
def permuted(self):
    return self.layer.weight.detach().permute(1, 0)

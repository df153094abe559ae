"""Answers to ptuning.count: E and the network."""

from torch import nn

from minipeft.course.corpus import right, wrong


def sizes(model, config):
    """The rows of E times d, d, h, the number of LSTM layers (0 for the MLP)."""
    known = config.of_model(model)
    d = known["token_dim"]
    kind = config.encoder_reparameterization_type
    return (
        config.tokens * known["num_transformer_submodules"] * d,
        d,
        config.encoder_hidden_size or d,
        config.encoder_num_layers if kind == "LSTM" else 0,
    )


def total(rows, d, h, layers, lstm_bias=2, wide=3):
    """The right count, with what mistakes change: the biases of a gate, the later layers' input."""
    if not layers:
        return rows + d * h + h + h * h + h + h * d + d
    first, later = d + h + lstm_bias, wide * h + lstm_bias
    return rows + 8 * h * (first + (layers - 1) * later) + (4 * h * h + 2 * h) + (2 * h * d + d)


@wrong("that is E alone")
def embedding_alone(model, config):
    return sizes(model, config)[0]


@wrong("that is the network alone; E is trained too")
def network_alone(model, config):
    _, d, h, layers = sizes(model, config)
    return total(0, d, h, layers)


@wrong("the biases are missing")
def no_bias(model, config):
    rows, d, h, _ = sizes(model, config)
    return rows + d * h + h * h + h * d


@wrong("two linear layers; there are three")
def two_layers(model, config):
    rows, d, h, _ = sizes(model, config)
    return rows + d * h + h + h * d + d


@wrong("encoder_hidden_size is not used")
def hidden_ignored(model, config):
    rows, d, _, layers = sizes(model, config)
    return total(rows, d, d, layers)


@wrong("the two linear layers after the LSTM are missing")
def no_head(model, config):
    rows, d, h, layers = sizes(model, config)
    if layers:
        return total(rows, d, h, layers) - (4 * h * h + 2 * h) - (2 * h * d + d)
    return total(rows, d, h, layers)


@wrong("an LSTM has two biases for each gate")
def one_bias(model, config):
    return total(*sizes(model, config), lstm_bias=1)


@wrong("the second layer reads both directions")
def later_layers_narrow(model, config):
    return total(*sizes(model, config), wide=2)


@wrong("encoder_num_layers is not used")
def always_two(model, config):
    rows, d, h, layers = sizes(model, config)
    return total(rows, d, h, min(layers, 1) * 2)


@wrong("the count of the MLP for an encoder with a decoder is 1,779,456")
def one_stack(model, config):
    _, d, h, layers = sizes(model, config)
    return total(config.tokens * d, d, h, layers)


@right
def by_formula(model, config):
    return total(*sizes(model, config))


@right
def counted(model, config):
    """On layers of the same shapes, on the meta device."""
    rows, d, h, layers = sizes(model, config)
    on = {"device": "meta"}
    if layers:
        parts = [nn.LSTM(d, h, layers, bidirectional=True, **on)]
        parts += [nn.Linear(2 * h, 2 * h, **on), nn.Linear(2 * h, d, **on)]
    else:
        parts = [nn.Linear(i, o, **on) for i, o in ((d, h), (h, h), (h, d))]
    return rows + sum(p.numel() for part in parts for p in part.parameters())

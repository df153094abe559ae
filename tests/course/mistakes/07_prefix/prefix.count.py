"""Answers to prefix.count: 2·L·v·d, or the MLP and E."""

from minipeft.course.corpus import right, wrong


def known(config, keys=True):
    sizes = config.of_model(None, keys=keys)
    return sizes["num_layers"], config.tokens, sizes["token_dim"]


def mlp(v, d, h, width):
    return v * d + (d * h + h) + (h * width + width)


def one_of_two(model, config):
    layers, v, d = known(config)
    return layers * v * d


def one_layer(model, config):
    _, v, d = known(config)
    return 2 * v * d


def prompt_tuning(model, config):
    _, v, d = known(config)
    return v * d


def words(model, config):
    layers, v, d = known(config, keys=False)
    return 2 * layers * v * d


def mlp_ignored(model, config):
    layers, v, d = known(config)
    return 2 * layers * v * d


def no_biases(model, config):
    layers, v, d = known(config)
    if not config.prefix_projection:
        return 2 * layers * v * d
    return v * d + d * d + d * 2 * layers * d


def no_rows(model, config):
    layers, v, d = known(config)
    if not config.prefix_projection:
        return 2 * layers * v * d
    return mlp(0, d, d, 2 * layers * d)


def result_counted(model, config):
    layers, v, d = known(config)
    width = 2 * layers * d
    return v * width + (mlp(v, d, d, width) if config.prefix_projection else 0)


def wide_rows(model, config):
    layers, v, d = known(config)
    width = 2 * layers * d
    return v * width + (mlp(0, d, d, width) if config.prefix_projection else 0)


def width_ignored(model, config):
    layers, v, d = known(config)
    width = 2 * layers * d
    return mlp(v, d, d, width) if config.prefix_projection else v * width


def without(config, missing):
    layers, v, d = known(config)
    width = 2 * layers * d
    return mlp(v, d, d, width) - missing(d, width) if config.prefix_projection else v * width


def no_first_bias(model, config):
    return without(config, lambda h, width: h)


def no_last_bias(model, config):
    return without(config, lambda h, width: width)


def rows_always(model, config):
    layers, v, d = known(config)
    return v * 2 * layers * d + v * d


def a_float(model, config):
    layers, v, d = known(config)
    return 2.0 * layers * v * d


def reference(model, config):
    layers, v, d = known(config)
    width = 2 * layers * d
    h = config.encoder_hidden_size or d
    return mlp(v, d, h, width) if config.prefix_projection else v * width


def layer_by_layer(model, config):
    layers, v, d = known(config)
    width = sum(d + d for _ in range(layers))
    if not config.prefix_projection:
        return v * width
    h = d if config.encoder_hidden_size is None else config.encoder_hidden_size
    return sum([v * d, (d + 1) * h, (h + 1) * width])


half = wrong("half of it: each layer has a key and a value")(one_of_two)
single = wrong("that is one layer")(one_layer)
shallow = wrong("prompt tuning's count")(prompt_tuning)
query_heads = wrong("`keys=True` is missing")(words)
stored = wrong("it is the MLP and E that are trained")(mlp_ignored)
biases = wrong("b₁ (h,) and b₂ (2·L·d,) are missing")(no_biases)
rows = wrong("E (v, d) is missing")(no_rows)
computed = wrong("the MLP's result is computed, not trained")(result_counted)
wide = wrong("E is (v, d) with the MLP")(wide_rows)
h_ignored = wrong("encoder_hidden_size=100 is ignored")(width_ignored)
first_bias = wrong("the bias b₁ (h,) is missing")(no_first_bias)
last_bias = wrong("the bias b₂ (2·L·d,) is missing")(no_last_bias)
no_mlp = wrong("without the MLP there is no E")(rows_always)
not_whole = wrong("a count is an int")(a_float)
parts = right(reference)
summed = right(layer_by_layer)

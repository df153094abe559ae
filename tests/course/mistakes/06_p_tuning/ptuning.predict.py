"""Answers to ptuning.predict: trained and stored on GPT-2, 10 tokens, the default MLP."""

from minipeft.course.corpus import right, wrong

LINEAR = 768 * 768 + 768

prompt_only = wrong("7,680 is what is stored: the network is trained too")((7_680, 7_680))
without_e = wrong("E is missing")((3 * LINEAR, 7_680))
without_bias = wrong("the biases of the three linear layers are missing")(
    (7_680 + 3 * 768**2, 7_680)
)
two_layers = wrong("that is two linear layers")((7_680 + 2 * LINEAR, 7_680))
one_layer = wrong("that is one linear layer")((7_680 + LINEAR, 7_680))
all_stored = wrong("the network is not stored: the model needs only")((1_779_456, 1_779_456))
network_stored = wrong("that is the network, which is not stored")((1_779_456, 3 * LINEAR))
e_stored = wrong("E is not stored beside P")((1_779_456, 15_360))
one_number = wrong("the answer is the pair (trained, stored)")(1_779_456)
something_else = wrong("the number trained is 1,000")((1000, 7_680))

product = right((10 * 768 + 3 * LINEAR, 10 * 768))
a_list = right([1_779_456, 7_680])
floats = right((1.779456e6, 7.68e3))

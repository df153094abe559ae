"""Answers to capstone.choose: too large, unfoldable, smaller than need be, misnamed."""

from minipeft.course.corpus import right, wrong


def jobs(capstone="lora-2", keyring="ia3", apart="adapter-8", postcard="prompt-10", gpt2="none"):
    named = {"capstone": capstone, "keyring": keyring, "apart": apart}
    return {**named, "postcard": postcard, "gpt2": gpt2}


rank_8 = wrong("lora-8 trains 81,920 numbers there, 327,680 bytes")(jobs(capstone="lora-8"))
smaller = wrong("capstone: ia3 is allowed, but another")(jobs(capstone="ia3"))
unfoldable = wrong("capstone: adapter-8 cannot be folded")(jobs(capstone="adapter-8"))
biases = wrong("keyring: bitfit trains 7,168 numbers there, 28,672 bytes")(jobs(keyring="bitfit"))
prompt = wrong("keyring: prompt-10 cannot be folded")(jobs(keyring="prompt-10"))
lora_apart = wrong("apart: lora-2 is allowed, but another")(jobs(apart="lora-2"))
postcard = wrong("postcard: ia3 trains 4,480 numbers there, 17,920 bytes")(jobs(postcard="ia3"))
gives_up = wrong("postcard: there is a design that fits")(jobs(postcard="none"))
on_gpt2 = wrong("gpt2: ia3 trains 64,512 numbers there, 258,048 bytes")(jobs(gpt2="ia3"))
prompt_gpt2 = wrong("gpt2: prompt-10 cannot be folded")(jobs(gpt2="prompt-10"))
misnamed = wrong("keyring: the designs are")(jobs(keyring="IA3"))
half = wrong("the jobs are capstone, keyring")({"capstone": "lora-2"})
word = wrong("give a dictionary {job: design}")("ia3")

one_by_one = right(jobs())
another_order = right(dict(reversed(jobs().items())))

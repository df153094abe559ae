"""What tiny-llama was trained on: sentences out of docstrings and comments, none of the topics."""

from __future__ import annotations

import json
from pydoc_data.topics import topics

from minipeft.lab.assets.english import OVERLAP, WORD, prose, runs, sources, written_in
from minipeft.lab.zoo import ASSETS, load_base

SOURCE = '''"""A module that does one thing, and says what it is in one sentence.

x   1   2
y   3   4
"""
# This comment goes over two lines and
# is a sentence with more than eight words.
def f():  # short
    """Return the value that was asked for by whoever has called this.

    >>> f() is a call, and so this paragraph is code and not what people read.
    """
'''


def test_sentences_are_found_and_tables_and_code_are_not():
    found = [paragraph for text in written_in(SOURCE) for paragraph in prose(text)]
    assert found == [
        "A module that does one thing, and says what it is in one sentence.",
        "Return the value that was asked for by whoever has called this.",
        "This comment goes over two lines and is a sentence with more than eight words.",
    ]
    assert list(written_in("def broken(:")) == []
    assert list(prose("Naïve words are not plain ASCII, and so this one is left out.")) == []


def test_runs_of_words_by_hand():
    words = [f"{chr(97 + i)}" * 2 for i in range(OVERLAP + 1)]
    assert runs(" ".join(words)) == {tuple(words[:-1]), tuple(words[1:])}
    assert runs(" ".join(words[:-2])) == set()


def test_the_topics_are_kept_out():
    assert sources()
    assert not [path for path in sources() if "pydoc_data" in path.parts]
    text = topics["for"]
    forbidden = runs(text)
    paragraph = " ".join(WORD.findall(text.lower())[20 : 20 + OVERLAP + 5])
    assert runs(paragraph) & forbidden


def test_the_record_is_the_bundled_models():
    record = json.loads((ASSETS / "tiny-llama" / "pretraining.json").read_text())
    model, _ = load_base("tiny-llama")
    assert record["parameters"] == model.num_parameters()

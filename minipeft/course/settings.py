"""The addresses that the generated notebooks carry, each written once.

Change one here, run `python -m minipeft.course.builder`, and every notebook follows.
"""

from __future__ import annotations

REPOSITORY = "https://github.com/minipeft/minipeft"
BRANCH = "main"

# What `%pip install` is given in a notebook where minipeft is missing (Colab). A wheel's path or
# "minipeft[course]==0.1.0" do as well.
INSTALL = f"minipeft[course] @ git+{REPOSITORY}"

# Opens a notebook of the repository in Colab; {path} is the notebook's path in the repository.
COLAB = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github")
COLAB += "/blob/" + BRANCH + "/{path}"

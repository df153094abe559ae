"""What the lessons use, and `make demo`: models, tasks, a loop, counts. Not needed to fine-tune.

zoo       one door to every base model; assets/: the bundled ones, and how they were made
tasks     small tasks with right answers; training: the loop that the notebooks show
counting  parameters by formula, bytes
demo      each method on a bundled model; compare/: all of them on equal terms

Fine-tunes of your own rows are in finetune/.
"""
